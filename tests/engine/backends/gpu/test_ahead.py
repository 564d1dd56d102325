"""The kernels compile for AMD GPUs, ahead of time and without one."""

import struct

import pytest

from engine.backends.gpu.ahead import ARCHS, compile_ahead, compiler, main
from engine.backends.gpu.images import object_name
from engine.backends.gpu.source import UNITS, kernel_source
from engine.errors import CompileError

pytestmark = pytest.mark.skipif(compiler() is None, reason="no clang for AMD GPUs")
AMDGPU = 224  # ELF's e_machine
MACHINES = {"gfx1151": 0x4A, "gfx1100": 0x41, "gfx1201": 0x4E}  # EF_AMDGPU_MACH


def test_an_object_for_every_architecture(tmp_path) -> None:
    (tmp_path / "gfx1151-0123456789abcdef.hsaco").write_bytes(b"of an older source")
    assert main([str(tmp_path)]) == 0
    named = {
        (arch, unit): object_name(arch, kernel_source(unit)) for arch in ARCHS for unit in UNITS
    }
    assert {path.name for path in tmp_path.iterdir()} == set(named.values())
    for (arch, _), name in named.items():
        image = (tmp_path / name).read_bytes()
        assert image.startswith(b"\x7fELF")
        assert struct.unpack_from("<H", image, 18)[0] == AMDGPU
        assert struct.unpack_from("<I", image, 48)[0] & 0xFF == MACHINES[arch]


def test_source_that_is_wrong_says_where() -> None:
    with pytest.raises(CompileError, match="unknown_name"):
        compile_ahead(
            "gfx1151", kernel_source("platform.h") + "DEV int f() { return unknown_name; }"
        )
