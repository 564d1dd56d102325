"""What the backend needs of a GPU's driver. One module per vendor implements it; nothing above
knows which one it is on.

Memory is named by its device address. All work goes to one stream, in order; `launch` and the
copies return before they are done, `synchronize` waits.
"""

import ctypes
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Grid = tuple[int, int, int]
Address = int
Function = Any  # a driver's own handle
Graph = Any
Event = Any


class Driver(Protocol):
    """One device."""

    name: str  # "cuda", "hip" or "emulated"
    device: str  # as its vendor calls it
    arch: str  # "sm_90", "gfx1151", ...
    n_units: int  # multiprocessors
    is_unified: bool  # whether the device works on the host's own memory

    def free_bytes(self) -> int: ...

    # ---- kernels ----
    def compile(self, source: str) -> bytes:
        """Raises CompileError."""
        ...

    def compiler(self) -> str:
        """Name and version of what compiles: an image is good for one of them only."""
        ...

    def load(self, image: bytes) -> Callable[[str], Function]:
        """Functions of an image by their names."""
        ...

    def launch(
        self,
        function: Function,
        grid: Grid,
        n_threads: int,
        args: ctypes.Structure,
        shared_bytes: int = 0,
        n_cluster: int = 1,
    ) -> None:
        """`shared_bytes` of a block's shared memory, beside what the kernel itself has; so many
        blocks along x form a cluster (platform.h: HAS_CLUSTERS)."""
        ...

    def fence(self) -> None:
        """Nothing of the next kernel may begin before all that was asked for so far is done: it
        changes what kernels read before they wait for others."""
        ...

    # ---- memory ----
    def allocate(self, n_bytes: int) -> Address:
        """Raises DeviceMemoryError."""
        ...

    def free(self, address: Address) -> None: ...
    def allocate_host(self, n_bytes: int) -> NDArray[np.uint8]:
        """Memory of the host that copies need not wait for, and that kernels may write to by the
        same address: it is seen when an event after them has happened. It is never freed."""
        ...

    def upload(self, target: Address, source: NDArray[Any]) -> None: ...
    def download(self, target: NDArray[Any], source: Address) -> None: ...
    def copy(self, target: Address, source: Address, n_bytes: int) -> None: ...
    def synchronize(self) -> None:
        """Raises DeviceLostError when what was asked for has failed."""
        ...

    # ---- places in the work ----
    def event(self) -> Event: ...
    def mark(self, event: Event) -> None:
        """The event happens when what was asked for so far is done."""
        ...

    def wait(self, event: Event) -> None:
        """Until it has happened. Raises as `synchronize` does."""
        ...

    # ---- recorded work ----
    def record(self, work: Callable[[], None]) -> Graph:
        """What `work` asks for, not done but recorded."""
        ...

    def run(self, graph: Graph) -> None: ...
