"""Compiled kernels are taken from where they are, and made anew where they are not sound."""

from pathlib import Path

import pytest

from engine.backends.gpu.images import Kernels, load_kernels, object_name
from engine.errors import CompileError, DeviceLostError, NativeError

SOURCE = "the kernels"


class RecordingDriver:
    """Compiles to the source's own bytes and notes what it is asked."""

    name, device, arch, is_unified = "hip", "a device", "gfx1151", True

    def __init__(self, version: str = "1", refuses: tuple[bytes, ...] = ()) -> None:
        self.version, self.refuses = version, refuses
        self.loaded: list[bytes] = []
        self.n_compiled = 0

    def compiler(self) -> str:
        return f"a compiler {self.version}"

    def compile(self, source: str) -> bytes:
        self.n_compiled += 1
        if source == "bad":
            raise CompileError("line 1: bad")
        return f"{source} for {self.arch}".encode()

    def load(self, image: bytes):
        self.loaded.append(image)
        if image in self.refuses:
            raise NativeError("loading", "refused")
        return lambda name: (image, name)


def load(driver: RecordingDriver, folder: Path, source: str = SOURCE, objects: Path | None = None):
    objects = objects or folder / "none"
    return load_kernels(driver, source, objects=objects, folder=folder)  # type: ignore[arg-type]


def test_kernels_are_compiled_once(tmp_path) -> None:
    first, second = RecordingDriver(), RecordingDriver()
    assert load(first, tmp_path)("f") == load(second, tmp_path)("f") == (first.loaded[0], "f")
    assert (first.n_compiled, second.n_compiled) == (1, 0)


def test_kernels_of_a_rounded_cache_are_compiled_when_they_are_asked_for(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.backends.gpu.images.cache_folder", lambda: tmp_path)
    driver = RecordingDriver()
    kernels = Kernels(driver)  # type: ignore[arg-type]
    assert kernels("kv_move") == (driver.loaded[0], "kv_move")
    assert driver.n_compiled == 1
    assert kernels("kv_move_q8") == (driver.loaded[1], "kv_move_q8")
    assert kernels("kv_store_q8") == (driver.loaded[1], "kv_store_q8")
    assert driver.n_compiled == 2


def test_another_source_architecture_or_compiler_is_another_image(tmp_path) -> None:
    load(RecordingDriver(), tmp_path)
    others = [RecordingDriver(), RecordingDriver("2"), RecordingDriver()]
    others[0].arch = "gfx1100"
    load(others[0], tmp_path)
    load(others[1], tmp_path)
    load(others[2], tmp_path, "other kernels")
    assert [driver.n_compiled for driver in others] == [1, 1, 1]
    assert len(list(tmp_path.glob("*.image"))) == 4


def damaged(content: bytes) -> list[bytes]:
    return [b"", content[:40], content[:-1], content + b"x", content[:-1] + b"?"]


@pytest.mark.parametrize("case", range(5))
def test_a_damaged_image_is_compiled_anew_and_kept(tmp_path, case) -> None:
    load(RecordingDriver(), tmp_path)
    file = next(tmp_path.glob("*.image"))
    sound = file.read_bytes()
    file.write_bytes(damaged(sound)[case])
    driver = RecordingDriver()
    load(driver, tmp_path)
    assert driver.n_compiled == 1
    assert driver.loaded == [b"the kernels for gfx1151"]
    assert file.read_bytes() == sound


def test_an_image_the_driver_refuses_is_compiled_anew(tmp_path) -> None:
    load(RecordingDriver(), tmp_path)
    image = b"the kernels for gfx1151"
    driver = RecordingDriver(refuses=(image,))
    with pytest.raises(NativeError, match="refused"):  # the new one is the same here
        load(driver, tmp_path)
    assert driver.n_compiled == 1
    assert driver.loaded == [image, image]


def test_objects_of_the_package_spare_the_compiler(tmp_path) -> None:
    (tmp_path / object_name("gfx1151", SOURCE)).write_bytes(b"ahead of time")
    driver = RecordingDriver()
    load(driver, tmp_path / "cache", objects=tmp_path)
    assert (driver.loaded, driver.n_compiled) == ([b"ahead of time"], 0)


def test_objects_of_another_source_or_that_are_refused_are_not_used(tmp_path) -> None:
    (tmp_path / object_name("gfx1151", "older kernels")).write_bytes(b"of old")
    (tmp_path / object_name("gfx1151", SOURCE)).write_bytes(b"broken")
    driver = RecordingDriver(refuses=(b"broken",))
    load(driver, tmp_path / "cache", objects=tmp_path)
    assert driver.loaded == [b"broken", b"the kernels for gfx1151"]


def test_a_lost_device_is_not_asked_again(tmp_path) -> None:
    class Lost(RecordingDriver):
        def load(self, image: bytes):
            raise DeviceLostError("loading", "gone")

    load(RecordingDriver(), tmp_path)
    driver = Lost()
    with pytest.raises(DeviceLostError):
        load(driver, tmp_path)
    assert driver.n_compiled == 0


def test_a_refused_source_leaves_nothing_behind(tmp_path) -> None:
    with pytest.raises(CompileError, match="line 1"):
        load(RecordingDriver(), tmp_path, "bad")
    assert list(tmp_path.iterdir()) == []
