"""Weights as a backend takes them: the file's own bytes, or Q8_0 where the type is not native."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

import gguf
import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from engine.errors import UnsupportedModelError
from engine.gguf.reader import GgufFile, TensorInfo
from engine.ops import Weight

Bytes = NDArray[np.uint8]
_Q8_BLOCK = 32


@dataclass(frozen=True)
class Tensor:
    """One tensor: its shape and type now, its bytes when asked for.

    `is_mapped` tensors are views of the file's map; the others take memory of their own.
    """

    weight: Weight
    is_mapped: bool
    load: Callable[[], Bytes]

    @property
    def n_bytes(self) -> int:
        return self.weight.n_out * row_bytes(self.weight)


@dataclass
class Weights:
    """The tensors of one or more files by name; `notices` says in words what is converted."""

    tensors: dict[str, Tensor]
    notices: list[str] = field(default_factory=list[str])

    @property
    def infos(self) -> Mapping[str, Weight]:
        return {name: tensor.weight for name, tensor in self.tensors.items()}

    def add(self, prefix: str, other: "Weights") -> None:
        """Takes over another file's tensors under names that begin with `prefix`."""
        for name, tensor in other.tensors.items():
            w = tensor.weight
            renamed = Weight(prefix + name, w.n_out, w.n_cols, w.type_id)
            self.tensors[prefix + name] = Tensor(renamed, tensor.is_mapped, tensor.load)
        self.notices += other.notices

    def add_rows(self, name: str, source: str, rows: NDArray[np.int32]) -> Weight:
        """A new tensor of some rows of another one."""
        tensor = self.tensors[source]
        w = tensor.weight

        def load() -> Bytes:
            return np.ascontiguousarray(tensor.load().reshape(w.n_out, -1)[rows]).reshape(-1)

        weight = Weight(name, len(rows), w.n_cols, w.type_id)
        self.tensors[name] = Tensor(weight, False, load)
        return weight


def of_gguf(
    gguf_file: GgufFile, is_native: Callable[[int], bool], names: Iterable[str] | None = None
) -> Weights:
    """Shapes and the types in which tensors will be delivered; reads no weight.

    `names` are the tensors that are wanted, all of them by default. Vectors have n_out 1; tensors
    of more than two dimensions fold the rest into n_out.
    """
    tensors: dict[str, Tensor] = {}
    converted: dict[str, int] = {}
    for name in gguf_file.tensors if names is None else names:
        info = gguf_file.tensors[name]
        n_cols = info.shape[0]
        n_out = int(np.prod(info.shape[1:], dtype=np.int64)) if len(info.shape) > 1 else 1
        target, is_kept = info.ggml_type, is_native(int(info.ggml_type))
        if not is_kept:
            target = _substitute(info)
            is_kept = target == info.ggml_type  # a vector of floats, which all backends take
        if not is_kept:
            converted[info.ggml_type.name] = converted.get(info.ggml_type.name, 0) + 1
        weight = Weight(name, n_out, n_cols, int(target))
        tensors[name] = Tensor(weight, is_kept, partial(_load, gguf_file, weight))
    notices = [
        f"{n} tensors of type {name} are converted to Q8_0 at load: they take more memory"
        for name, n in converted.items()
    ]
    return Weights(tensors, notices)


def row_bytes(weight: Weight) -> int:
    """Bytes of one row in the weight's (not the file's) type."""
    block_elements, block_bytes = gguf.GGML_QUANT_SIZES[GGMLQuantizationType(weight.type_id)]
    return weight.n_cols // block_elements * block_bytes


def _load(gguf_file: GgufFile, weight: Weight) -> Bytes:
    """Raises UnsupportedModelError if gguf cannot dequantize the file's type."""
    info = gguf_file.tensors[weight.name]
    raw = gguf_file.data(weight.name)
    if int(info.ggml_type) == weight.type_id:
        return raw
    try:
        values = gguf.dequantize(raw.reshape(weight.n_out, -1), info.ggml_type)
    except NotImplementedError as error:
        raise UnsupportedModelError("weight type", info.ggml_type.name, _readable()) from error
    return quantize(np.ascontiguousarray(values, dtype=np.float32), weight.type_id)


def quantize(values: NDArray[np.float32], type_id: int) -> Bytes:
    packed = gguf.quantize(values, GGMLQuantizationType(type_id))
    return np.ascontiguousarray(packed).reshape(-1).view(np.uint8)


def _substitute(info: TensorInfo) -> GGMLQuantizationType:
    is_blockwise = info.shape[0] % _Q8_BLOCK == 0 and len(info.shape) > 1
    return GGMLQuantizationType.Q8_0 if is_blockwise else GGMLQuantizationType.F32


def _readable() -> list[str]:
    return ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K..Q6_K", "IQ*"]
