"""A device whose buffers have guards: what a kernel writes beside one is found."""

from typing import Any, Protocol

import numpy as np

from engine.backends.gpu.driver import Address, Driver
from engine.backends.gpu.opening import open_driver

_GUARD = 4096
_UNTOUCHED = 0xFF


class Guarded(Driver, Protocol):
    def damage(self) -> list[str]:
        """Buffers that something was written beside, also those that are gone by now."""
        ...


def guarded_driver(name: str = "emulated", **options: Any) -> Guarded:
    """A device of the driver of that name, whose buffers have guards. Raises NoDeviceError with
    what to do."""
    base: Any = type(open_driver(name))

    class GuardedDriver(base):
        def __init__(self, **options: Any) -> None:
            self._sizes: dict[Address, int] = {}
            self._freed: list[str] = []
            super().__init__(**options)
            self.n_units = 2  # as the emulated device has: kernels are chosen by it

        def allocate(self, n_bytes: int) -> Address:
            # The guard behind begins at the very byte after the buffer. Memory that was never
            # written is full of what is no number, whichever the device.
            n_all = n_bytes + 2 * _GUARD
            whole = super().allocate(n_all)
            self.upload(whole, np.full(n_all, _UNTOUCHED, np.uint8))
            self.synchronize()
            self._sizes[whole + _GUARD] = n_bytes
            return whole + _GUARD

        def free(self, address: Address) -> None:
            self._freed += self._damage_at(address)
            del self._sizes[address]
            super().free(address - _GUARD)

        def damage(self) -> list[str]:
            return self._freed + [
                found for address in self._sizes for found in self._damage_at(address)
            ]

        def _damage_at(self, address: Address) -> list[str]:
            n_bytes = self._sizes[address]
            sides = {"before": address - _GUARD, "behind": address + n_bytes}
            return [
                f"{side} a buffer of {n_bytes} bytes"
                for side, guard in sides.items()
                if (self._guard(guard) != _UNTOUCHED).any()
            ]

        def _guard(self, address: Address) -> np.ndarray:
            content = np.empty(_GUARD, np.uint8)
            self.download(content, address)
            self.synchronize()
            return content

    return GuardedDriver(**options)
