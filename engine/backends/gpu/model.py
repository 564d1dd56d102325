"""A Program on a GPU: its launches, recorded as one graph for each size of step."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from weakref import WeakKeyDictionary

import numpy as np

from engine.backends.arena import plan_arena
from engine.backends.backend import KV_BLOCK_TOKENS, Bytes, Floats, Int32s, KvCache
from engine.backends.gpu.args import AdvanceArgs, EmbedArgs
from engine.backends.gpu.choices import choose_args, most_top, scratch_bytes
from engine.backends.gpu.device_weights import MOST_POSITIONS, DeviceWeights
from engine.backends.gpu.driver import Address, Driver, Event, Function, Graph, Grid
from engine.backends.gpu.foresight import Asked, Foresight
from engine.backends.gpu.fusing import Rounded, fuse
from engine.backends.gpu.kv import GpuKvCache
from engine.backends.gpu.launch import SPLIT_KEYS, THREADS, Bucket, Launch
from engine.backends.gpu.lowering import SPLIT_ROWS, Lowering, rounded_bytes
from engine.backends.gpu.one_row import of_one_row
from engine.backends.gpu.sparse import is_sparse
from engine.backends.gpu.splits import n_splits_of, partial_bytes, split_room
from engine.backends.gpu.step import StepInputs
from engine.backends.likeliest import likeliest
from engine.errors import NativeError
from engine.ops import Activation, Argmax, Attention, Op, Rows, TopK
from engine.program import Program

_ROW_BUCKETS = (1, 4, 8, 16, 24, 32, 48, 64, 128, 256, 512)
# What is recorded before it is asked for: to record a graph takes as long as several steps.
_USUAL_TREE_ROWS, _USUAL_KEYS = 32, 4096
# What drivers keep of them: 2 KB an op were seen on an H200, of as many graphs.
_OP_BYTES, _MOST_USUAL_GRAPHS = 2048, 110
# What a graph begins with: the inputs it is given (0), the token that was chosen before, with
# results in turn (1, 2), or inputs below what another model's rows decided.
_BELOW = 3


def graph_bytes(program: Program) -> int:
    """About what the usual graphs of a Program's steps take."""
    return _MOST_USUAL_GRAPHS * _OP_BYTES * len(program.ops)


@dataclass(frozen=True)
class LaunchTime:
    """`n` launches of a step that are alike, and the microseconds of one."""

    kernel: str
    grid: Grid
    weight_bytes: int
    n: int
    us: float


@dataclass(frozen=True)
class _Plan:
    """Fused ops, and where the activations of so many rows lie in an arena."""

    ops: list[Op]
    most_rows: Mapping[Rows, int]
    result: Activation
    offsets: Mapping[Activation, int]
    n_bytes: int

    @classmethod
    def of(cls, ops: Sequence[Op], result: Activation, most_rows: Mapping[Rows, int]) -> "_Plan":
        def size_of(x: Activation) -> int:
            n_rows = most_rows[x.rows]
            return rounded_bytes(x, n_rows) if isinstance(x, Rounded) else 4 * n_rows * x.width

        fused = fuse(ops, result)
        return cls(fused, most_rows, result, *plan_arena(fused, result, size_of))


@dataclass(frozen=True)
class _Lowered:
    """What a step launches, and where its result is."""

    launches: list[Launch]
    result: Address


def _lowered(
    arena: Address,
    step: Address,
    weights: Mapping[str, Bytes],
    scratch: Mapping[str, Address],
    plan: _Plan,
    device: DeviceWeights,
    n_units: int,
) -> _Lowered:
    def place(x: Activation) -> Address:
        return arena + plan.offsets[x]

    lowering = Lowering(step, weights, device, place, scratch, plan.most_rows, n_units)
    launches = [launch for op in plan.ops for launch in lowering.lower(op)]
    return _Lowered(launches, place(plan.result))


@dataclass(eq=False)
class _Results:
    """What a step chose, once it is `done`; `is_waited_for` where that is known. `result` is where
    the step's result is, until the next one."""

    ids: Int32s
    done: Event
    is_waited_for: bool = True
    result: Address = 0

    @property
    def address(self) -> Address:
        return self.ids.ctypes.data


class GpuModel:
    """Implements `backend.Model`. A step is one launch of a recorded graph and, for greedy
    decoding, one small copy back. Raises DeviceMemoryError when it does not fit."""

    is_concurrent = True

    def __init__(
        self,
        program: Program,
        weights: Mapping[str, Bytes],
        driver: Driver,
        functions: Callable[[str], Function],
        device: DeviceWeights,
        *,
        max_rows: int,
        max_out_rows: int,
        usual_positions: int,
        below: "GpuModel | None" = None,
    ) -> None:
        self.can_follow, self._below = below is not None, below
        self.program, self.max_rows, self.max_out_rows = program, max_rows, max_out_rows
        self._driver, self._functions, self._device = driver, functions, device
        self._addresses: list[Address] = []
        most_blocks = MOST_POSITIONS // KV_BLOCK_TOKENS
        self._inputs = StepInputs(driver, max_rows, max_out_rows, most_blocks)
        self._most_splits = n_splits_of(usual_positions)
        self._scratch = self._make_scratch()
        # Steps of one row work in the same memory as others.
        whole, one = (program.ops, program.result), of_one_row(program.ops, program.result)
        most_rows = {Rows.STEP: max_rows, Rows.SELECTED: max_out_rows}
        plans = _Plan.of(*whole, most_rows), _Plan.of(*one, dict.fromkeys(Rows, 1))
        self.arena_bytes = max(plan.n_bytes for plan in plans)
        arena = self._allocate(self.arena_bytes)
        lower = partial(_lowered, arena, self._inputs.address, weights, self._scratch)
        self._whole, self._one = (lower(plan, device, driver.n_units) for plan in plans)
        # A graph names its cache's memory: it goes with the cache.
        self._graphs: WeakKeyDictionary[GpuKvCache, dict[tuple[Bucket, int], Graph]] = (
            WeakKeyDictionary()
        )
        attentions = [op for op in program.ops if isinstance(op, Attention)]
        self._takes_chains = any(is_sparse(op) for op in attentions)
        self._chooses = any(isinstance(op, Argmax) for op in program.ops)
        self._foresight = Foresight()
        self._n_writes = 0  # to the cache of the last step, with it
        self._row: Floats | None = None
        self._is_cancelled = False

    # ---- a step ----

    def step(
        self,
        kv: KvCache,
        tokens: Int32s,
        parents: Int32s,
        blocks: Int32s,
        n_past: int,
        out_rows: Int32s,
    ) -> bool:
        assert isinstance(kv, GpuKvCache), "the cache is another backend's"
        if self._is_cancelled:
            return False
        if self._takes_chains and (parents != np.arange(-1, len(parents) - 1)).any():
            raise NativeError("attention", "block-sparse rows of a tree, expected a chain")
        asked = Asked(kv, tokens, parents, blocks.copy(), n_past, out_rows)
        if not self._chooses:  # nothing to foresee, and no reason to keep the cache
            self._current = self._run(asked)
            return True
        is_untouched = kv.n_writes == self._n_writes
        if self._foresight.is_met(asked, is_untouched=is_untouched):
            assert self._coming is not None
            self._current = self._coming
        else:
            self._current = self._run(asked)
        begins = asked.is_single and self._foresight.begins()
        self._coming = self._go_on(asked) if begins else None
        return True

    def _run(self, asked: Asked) -> "_Results":
        kv = asked.kv
        assert isinstance(kv, GpuKvCache)
        self._wait()  # this model's step before reads its inputs until it is done
        self._inputs.fill(asked.tokens, asked.parents, asked.blocks, asked.n_past, asked.out_rows)
        bucket = self._bucket(kv, len(asked.tokens), len(asked.out_rows), asked.n_past)
        return self._run_graph(kv, bucket, 0)

    def _go_on(self, asked: Asked) -> "_Results":
        """Begins the step that will follow, with the token that is chosen in this one."""
        kv = asked.kv
        assert isinstance(kv, GpuKvCache)
        if (asked.n_past + 1) % KV_BLOCK_TOKENS == 0:  # the first of a block the device knows not
            self._inputs.upload_blocks(asked.blocks)
        slot = 2 if self._current is self._results[1] else 1
        return self._run_graph(kv, self._bucket(kv, 1, 1, asked.n_past + 1), slot)

    def follow(
        self, kv: KvCache, tokens: Int32s, blocks: Int32s, n_past: int, out_rows: Int32s
    ) -> bool:
        assert isinstance(kv, GpuKvCache), "the cache is another backend's"
        below = self._below
        # A step that was begun early is no longer the one to follow.
        if self._is_cancelled or below is None or below._coming is not None:
            return False
        self._wait()
        n_rows = len(tokens)
        parents = np.arange(-1, n_rows - 1, dtype=np.int32)
        self._inputs.fill(tokens, parents, blocks, n_past, out_rows)
        n_room = KV_BLOCK_TOKENS * len(blocks)
        bucket = self._bucket(kv, n_rows, len(out_rows), n_room - n_rows)
        self._current = self._run_graph(kv, bucket, _BELOW)
        return True

    def _run_graph(self, kv: GpuKvCache, bucket: Bucket, slot: int) -> "_Results":
        results = self._results[slot % _BELOW]
        self._driver.run(self._graph(kv, bucket, slot))
        self._driver.mark(results.done)
        results.is_waited_for = False
        results.result = self._of(bucket).result
        kv.n_writes += 1
        self._n_writes = kv.n_writes
        return results

    def _of(self, bucket: Bucket) -> _Lowered:
        return self._one if bucket.n_rows == 1 else self._whole

    def _graph(self, kv: GpuKvCache, bucket: Bucket, slot: int) -> Graph:
        graphs = self._graphs.setdefault(kv, {})
        if (bucket, slot) not in graphs:
            graphs[bucket, slot] = self._driver.record(lambda: self._launch(bucket, kv, slot))
        return graphs[bucket, slot]

    def prepare_some(self, kv: KvCache) -> bool:
        assert isinstance(kv, GpuKvCache), "the cache is another backend's"
        recorded = self._graphs.setdefault(kv, {})
        for bucket, slot in self._usual_graphs(kv):
            if (bucket, slot) not in recorded:
                self._graph(kv, bucket, slot)
                return True
        return False

    def _usual_graphs(self, kv: GpuKvCache) -> Iterator[tuple[Bucket, int]]:
        """Those of single rows, of trees, and of what a prompt has more than the one before."""
        n_keys = min(_USUAL_KEYS, self._most_splits * SPLIT_KEYS)
        rooms = [1 << i for i in range(split_room(n_keys).bit_length())]
        for n in (*(n for n in _ROW_BUCKETS if n < self.max_rows), self.max_rows):
            n_outs = {1, n} if n <= min(_USUAL_TREE_ROWS, self.max_out_rows) else {1}
            n_pasts = [room * SPLIT_KEYS - n for room in rooms if room * SPLIT_KEYS >= n]
            for n_out in sorted(n_outs):
                # Longer steps have one graph, whatever came before.
                buckets = {self._bucket(kv, n, n_out, n_past): None for n_past in n_pasts or [0]}
                slots = [0, *([1, 2] if n == 1 and self._chooses else [])]
                slots += [_BELOW] if self.can_follow else []
                yield from ((bucket, slot) for bucket in buckets for slot in slots)

    def _bucket(self, kv: GpuKvCache, n_rows: int, n_out_rows: int, n_past: int) -> Bucket:
        n = _at_least(n_rows, self.max_rows)
        n_out = _at_least(max(n_out_rows, 1), self.max_out_rows)
        n_splits = n_splits_of(n_past + n_rows)
        if n > SPLIT_ROWS or n_splits > self._most_splits:
            return Bucket(n, n_out, 0, kv.kv_type)
        n_splits = min(split_room(n_past + n_rows), self._most_splits)
        return Bucket(n, n_out, n_splits, kv.kv_type)

    def _launch(self, bucket: Bucket, kv: GpuKvCache, slot: int) -> None:
        launches = self._of(bucket).launches
        if slot == 0:
            self._inputs.upload()
        elif slot == _BELOW:
            assert self._below is not None
            self._inputs.upload()
            kv.follow(
                self._below._inputs.address, self._below._scratch["ids"], self._inputs.address
            )
            self._driver.fence()
        else:
            self._advance(launches[0], bucket, kv, slot)
            launches = launches[1:]
        for launch in launches:
            self._launch_one(launch, bucket, kv)

    def _advance(self, embed: Launch, bucket: Bucket, kv: GpuKvCache, slot: int) -> None:
        """To the step that follows: looks up the token just chosen, as a step begins with."""
        embedding = embed.make(bucket, kv)
        assert isinstance(embedding, EmbedArgs), "a step's first op looks up its tokens"
        told, ids = self._results[slot].address, self._scratch["ids"]
        args = AdvanceArgs(embedding, self._inputs.address, ids, told)
        self._driver.launch(self._functions("advance"), embed.grid(bucket), THREADS, args)
        self._driver.fence()

    def launch_times(
        self, kv: GpuKvCache, n_rows: int, n_out_rows: int, n_past: int, n_repeated: int
    ) -> list[LaunchTime]:
        """Every kind of launch of a step like the last one; for benchmarks.

        Launches of a kind run one after another and all again, so that weights come from memory
        where those of a kind are more than the caches hold."""
        bucket = self._bucket(kv, n_rows, n_out_rows, n_past)
        kinds: dict[tuple[str, Grid, int], list[Launch]] = {}
        for launch in self._of(bucket).launches:
            if name := launch.kernel(bucket):
                kind = (name, launch.grid(bucket), launch.weight_bytes)
                kinds.setdefault(kind, []).append(launch)
        return [
            LaunchTime(*kind, len(alike), self._time(alike, bucket, kv, n_repeated))
            for kind, alike in kinds.items()
        ]

    def _time(
        self, launches: Sequence[Launch], bucket: Bucket, kv: GpuKvCache, n_repeated: int
    ) -> float:
        """Microseconds of one of `launches`: the least of a few tries."""
        in_turn = [*launches] * n_repeated

        def launch_all() -> None:
            for launch in in_turn:
                self._launch_one(launch, bucket, kv)

        graph = self._driver.record(launch_all)
        times: list[float] = []
        for _ in range(4):
            self._driver.synchronize()
            began = perf_counter()
            self._driver.run(graph)
            self._driver.synchronize()
            times.append(1e6 * (perf_counter() - began) / len(in_turn))
        return min(times)

    def _launch_one(self, launch: Launch, bucket: Bucket, kv: GpuKvCache) -> None:
        if name := launch.kernel(bucket):
            self._driver.launch(
                self._functions(name),
                launch.grid(bucket),
                launch.n_threads(bucket),
                launch.make(bucket, kv),
                launch.shared_bytes(bucket),
                launch.cluster(bucket),
            )

    def set_cancelled(self, is_cancelled: bool) -> None:
        """A step that was begun ends: it takes milliseconds."""
        self._is_cancelled = is_cancelled

    # ---- its results ----

    def argmax(self, n_rows: int) -> list[int]:
        tokens = self._chosen(n_rows).tolist()
        if min(tokens, default=0) < 0:
            raise NativeError("argmax", "the logits are not finite numbers, expected a sound model")
        if n_rows == 1:
            self._foresight.choose(tokens[0])
        return tokens

    def top_k(self, n_rows: int) -> tuple[Int32s, Floats]:
        k = self._k
        ids = self._chosen(n_rows * k).reshape(n_rows, k)
        if (ids[:, 0] < 0).any():
            raise NativeError("top_k", "the logits are not finite numbers, expected a sound model")
        return ids.copy(), self._log_probs[: n_rows * k].reshape(n_rows, k).copy()

    def _chosen(self, n: int) -> Int32s:
        self._wait()
        return self._current.ids[:n]

    def _wait(self) -> None:
        """For the step asked for last."""
        if not self._current.is_waited_for:
            self._driver.wait(self._current.done)
            self._current.is_waited_for = True

    def likeliest(self, n_rows: int, k: int) -> tuple[Int32s, Floats]:
        x = self.program.result
        k = min(k, x.width)
        if k > self._most_top:
            return likeliest(self._read_result(n_rows), k)
        self._settle_result()
        n = n_rows * k
        found = self._best[: 2 * n]
        to = found.ctypes.data
        room = {**self._scratch, "ids": to, "values": to + 4 * n}
        args = choose_args(
            self._inputs.address, self._current.result, room, x.width, k,
            is_log_softmax=False, is_told=False,
        )  # fmt: skip
        for name, n_blocks in (("top_k_chunks", args.n_chunks), ("top_k", 1)):
            self._driver.launch(self._functions(name), (n_blocks, n_rows, 1), THREADS, args)
        self._driver.synchronize()
        ids, values = found.copy().reshape(2, n_rows, k)
        if (ids[:, 0] < 0).any():
            raise NativeError("logits", "the best is not finite, expected a sound model")
        return ids, values.view(np.float32)

    def logits(self, n_rows: int, first: int = 0) -> Floats:
        return self._read_result(n_rows, first)

    def collected(self, n_rows: int) -> Floats:
        return self._read_result(n_rows)

    def _settle_result(self) -> None:
        """The result is the last step's: what was begun after it writes to the same place."""
        if (asked := self._foresight.give_up()) is not None:
            self._current = self._run(asked)

    def _read_result(self, n_rows: int, first: int = 0) -> Floats:
        self._settle_result()
        found = self._room(n_rows - first)
        n_before = first * found.itemsize * found.shape[1]
        self._driver.download(found, self._current.result + n_before)
        self._driver.synchronize()
        return found

    def _room(self, n_rows: int) -> Floats:
        """For results. That of a single row, which who samples or heals asks for, is used again and
        copied to without waiting for pages."""
        width = self.program.result.width
        if n_rows != 1 or not self._chooses:
            return np.empty((n_rows, width), np.float32)
        if self._row is None:
            self._row = self._driver.allocate_host(4 * width).view(np.float32).reshape(1, width)
        return self._row

    # ---- memory ----

    def _make_scratch(self) -> dict[str, Address]:
        """Where the parts of attention and the choices go."""
        ops, n_out = self.program.ops, self.max_out_rows
        n_partial = partial_bytes(self.program, self.max_rows, self._most_splits)
        chosen = [op for op in ops if isinstance(op, TopK)]
        self._k = chosen[0].k if chosen else 1
        hosts = [self._driver.allocate_host(4 * n_out * self._k) for _ in range(3)]
        # Of steps that were asked for, and, in turn, of those that were begun before.
        self._results = [_Results(host.view(np.int32), self._driver.event()) for host in hosts]
        self._current, self._coming = self._results[0], None
        self._inputs.tell(self._results[0].address)
        log_probs = self._driver.allocate_host(4 * n_out * self._k if chosen else 0)
        self._log_probs: Floats = log_probs.view(np.float32)
        width = max((op.x.width for op in ops if isinstance(op, Argmax | TopK)), default=1)
        self._most_top = most_top(width)
        self._best: Int32s = self._driver.allocate_host(8 * n_out * self._most_top).view(np.int32)
        sizes = scratch_bytes(n_out, width, self._k)
        scratch = {name: self._allocate(n_bytes) for name, n_bytes in sizes.items()}
        scratch["values"] = log_probs.ctypes.data
        return {"partial": self._device.scratch(n_partial), **scratch}

    def _allocate(self, n_bytes: int) -> Address:
        self._addresses.append(self._driver.allocate(max(n_bytes, 256)))
        return self._addresses[-1]

    def __del__(self) -> None:
        for address in self._addresses:
            self._driver.free(address)


def _at_least(n: int, most: int) -> int:
    i = bisect_left(_ROW_BUCKETS, n)
    return min(_ROW_BUCKETS[i], most) if i < len(_ROW_BUCKETS) else most
