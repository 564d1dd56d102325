"""An emulated device whose buffers have guards: what a kernel writes beside one is found."""

import ctypes

from engine.backends.gpu.driver import Address
from engine.backends.gpu.emulated import EmulatedDriver

_GUARD = 4096
# As memory that was never written: numbers read from a guard are no numbers.
_UNTOUCHED = b"\xff" * _GUARD


class GuardedDriver(EmulatedDriver):
    def __init__(self, *, is_quads: bool = False) -> None:
        super().__init__(is_quads=is_quads)
        self._sizes: dict[Address, int] = {}
        self._freed: list[str] = []

    def allocate(self, n_bytes: int) -> Address:
        # The guard behind begins at the very byte after the buffer.
        address = super().allocate(n_bytes + 2 * _GUARD) + _GUARD
        self._sizes[address] = n_bytes
        return address

    def free(self, address: Address) -> None:
        self._freed += self._damage_at(address)
        del self._sizes[address]
        super().free(address - _GUARD)

    def damage(self) -> list[str]:
        """Buffers that something was written beside, also those that are gone by now."""
        return self._freed + [
            found for address in self._sizes for found in self._damage_at(address)
        ]

    def _damage_at(self, address: Address) -> list[str]:
        n_bytes = self._sizes[address]
        sides = {"before": address - _GUARD, "behind": address + n_bytes}
        return [
            f"{side} a buffer of {n_bytes} bytes"
            for side, guard in sides.items()
            if ctypes.string_at(guard, _GUARD) != _UNTOUCHED
        ]
