"""The inputs of a step, mirrored on the host: filled here, copied to the device in one piece."""

import ctypes

import numpy as np

from engine import _native
from engine.backends.backend import Bytes, Int32s
from engine.backends.gpu.args import StepHead
from engine.backends.gpu.driver import Address, Driver

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
        self._path: Bytes = self._arrays["path"].view(np.uint8).reshape(MOST_TREE_ROWS, -1)

    def fill(
        self,
        tokens: Int32s,
        parents: Int32s,
        blocks: Int32s,
        n_past: int,
        out_rows: Int32s,
    ) -> None:
        """As `Model.step` gets them."""
        head, arrays, n_rows = self._head, self._arrays, len(tokens)
        head.n_rows, head.n_past, head.n_out_rows = n_rows, n_past, len(out_rows)
        arrays["tokens"][:n_rows] = tokens
        arrays["out_rows"][: len(out_rows)] = out_rows
        arrays["blocks"][: len(blocks)] = blocks
        head.is_chain = _native.fill_paths(
            parents, n_past, arrays["positions"], arrays["depth"], self._path
        )

    def tell(self, ids: Address) -> None:
        """Has what a step chooses written there."""
        self._head.told = ids

    def upload_blocks(self, blocks: Int32s) -> None:
        """Those alone, for a step that goes on with inputs that are there."""
        mirrored = self._arrays["blocks"][: len(blocks)]
        mirrored[:] = blocks
        self._driver.upload(self._head.blocks, mirrored)

    def upload(self) -> None:
        self._driver.upload(self.address, self._host)

    def __del__(self) -> None:
        self._driver.free(self.address)
