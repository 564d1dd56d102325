"""The inputs of a step, mirrored on the host: filled here, copied to the device in one piece."""

import ctypes

import numpy as np

from engine.backends.backend import Int32s
from engine.backends.gpu.args import StepHead
from engine.backends.gpu.driver import Driver

MOST_TREE_ROWS = 64  # native/gpu/step.h: kMostTree
_HEAD_BYTES = ctypes.sizeof(StepHead)


class StepInputs:
    """Room for `max_rows` rows, `max_out_rows` selected ones and `most_blocks` KV blocks."""

    def __init__(self, driver: Driver, max_rows: int, max_out_rows: int, most_blocks: int) -> None:
        sizes = {
            "tokens": max_rows,
            "positions": max_rows,
            "depth": max_rows,
            "out_rows": max_out_rows,
            "blocks": most_blocks,
            "path": MOST_TREE_ROWS * MOST_TREE_ROWS // 4,
        }
        n_bytes = _HEAD_BYTES + 4 * sum(sizes.values())
        self._driver = driver
        self.address = driver.allocate(n_bytes)
        self._host = driver.allocate_host(n_bytes)
        self._head = StepHead.from_buffer(self._host)  # type: ignore[arg-type]
        self._arrays: dict[str, Int32s] = {}
        start = _HEAD_BYTES
        for name, size in sizes.items():
            self._arrays[name] = self._host[start : start + 4 * size].view(np.int32)
            setattr(self._head, name, self.address + start)
            start += 4 * size
        # (rows, MOST_TREE_ROWS); NumPy is slow at what is a few bytes long.
        self._path: memoryview = memoryview(self._arrays["path"].data).cast("B")

    def fill(
        self,
        tokens: Int32s,
        positions: Int32s,
        parents: Int32s,
        blocks: Int32s,
        n_past: int,
        out_rows: Int32s,
    ) -> None:
        """As `Model.step` gets them."""
        head, arrays, n_rows = self._head, self._arrays, len(tokens)
        head.n_rows, head.n_past, head.n_out_rows = n_rows, n_past, len(out_rows)
        arrays["tokens"][:n_rows] = tokens
        arrays["positions"][:n_rows] = positions
        arrays["out_rows"][: len(out_rows)] = out_rows
        arrays["blocks"][: len(blocks)] = blocks
        is_chain = bool((parents == np.arange(-1, n_rows - 1)).all())
        head.is_chain = is_chain
        if is_chain:
            arrays["depth"][:n_rows] = np.arange(n_rows)
            return
        paths: list[bytes] = []
        above: list[int] = parents.tolist()
        for row, parent in enumerate(above):
            path = (b"" if parent < 0 else paths[parent]) + bytes((row,))
            self._path[row * MOST_TREE_ROWS : row * MOST_TREE_ROWS + len(path)] = path
            paths.append(path)
        arrays["depth"][:n_rows] = [len(path) - 1 for path in paths]

    def upload(self) -> None:
        self._driver.upload(self.address, self._host)

    def __del__(self) -> None:
        self._driver.free(self.address)
