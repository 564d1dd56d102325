"""GpuBackend: models on one device (`engine.backends.backend.Backend`)."""

from collections.abc import Mapping, Sequence
from hashlib import sha256

from engine.backends.backend import Bytes, Floats, Halves, Model
from engine.backends.gpu.defaults import defaults_of
from engine.backends.gpu.device_weights import MOST_POSITIONS, DeviceWeights, weight_bytes
from engine.backends.gpu.driver import Driver
from engine.backends.gpu.images import Kernels
from engine.backends.gpu.kv import GpuKvCache, block_bytes
from engine.backends.gpu.model import GpuModel, graph_bytes
from engine.backends.gpu.packing import is_packable
from engine.backends.gpu.shares import AttentionShares
from engine.backends.gpu.source import UNITS, kernel_source
from engine.backends.gpu.splits import n_splits_of, partial_bytes
from engine.config import KvCacheType
from engine.errors import RequestError
from engine.ops import KvLayer
from engine.program import Program

DEFAULT_POSITIONS = 2048  # of a model that is made without a plan


class GpuBackend:
    """The device behind `driver`. Raises CompileError when the kernels cannot be had."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._functions = Kernels(driver)
        self._weights = DeviceWeights(driver)
        self._shares = AttentionShares(driver, self._functions, self._weights)
        self.name = f"{driver.name} ({driver.device}, {driver.arch})"
        self.n_threads = 1
        defaults = defaults_of(driver.arch)
        self.prefill_rows = defaults.prefill_rows
        self.tree_budget: int | None = defaults.tree_budget
        self._n_ctx = DEFAULT_POSITIONS

    def identity(self) -> str:
        driver, sources = self._driver, "".join(kernel_source(unit) for unit in UNITS)
        source = sha256(sources.encode()).hexdigest()
        return "\n".join((driver.name, driver.device, driver.arch, driver.compiler(), source))

    def prepare(self, model_bytes: int, n_ctx: int) -> None:
        if n_ctx > MOST_POSITIONS:
            raise RequestError(
                f"a context of {n_ctx} tokens on a GPU, expected <= {MOST_POSITIONS}"
            )
        self._n_ctx = n_ctx

    def weight_bytes(self, programs: Sequence[Program]) -> int | None:
        return weight_bytes(programs)

    def scratch_bytes(self, programs: Sequence[Program], n_ctx: int) -> int:
        # What a drafter's or scorer's steps work in lies in the same place.
        n_splits = n_splits_of(n_ctx)
        parts = max(partial_bytes(program, self.prefill_rows, n_splits) for program in programs)
        return parts + sum(graph_bytes(program) for program in programs)

    def is_native(self, type_id: int) -> bool:
        return is_packable(type_id)

    def block_bytes(self, layers: Sequence[KvLayer], kv_type: KvCacheType) -> int:
        return block_bytes(layers, kv_type)

    def free_bytes(self) -> int | None:
        return self._driver.free_bytes()

    def kv_cache(
        self, layers: Sequence[KvLayer], n_blocks: int, kv_type: KvCacheType = "f16"
    ) -> GpuKvCache:
        return GpuKvCache(self._driver, self._functions, layers, n_blocks, kv_type)

    def model(
        self,
        program: Program,
        weights: Mapping[str, Bytes],
        *,
        max_rows: int,
        max_out_rows: int,
        below: Model | None = None,
    ) -> GpuModel:
        assert below is None or isinstance(below, GpuModel), "the model is another backend's"
        return GpuModel(
            program,
            weights,
            self._driver,
            self._functions,
            self._weights,
            max_rows=max_rows,
            max_out_rows=max_out_rows,
            usual_positions=self._n_ctx,
            below=below,
        )

    def attention_shares(
        self, queries: Floats, keys: Sequence[Halves], layer: int, scale: float
    ) -> Floats:
        return self._shares(queries, keys, layer, scale)
