"""Files under a byte budget: what is kept, what goes first, and what a broken disk costs."""

import os
from pathlib import Path
from typing import BinaryIO

import pytest

from engine.disk_cache import DiskCache


def cache_of(folder: Path | None, byte_budget: int = 30) -> DiskCache:
    return DiskCache(folder, ".part", byte_budget)


def put(cache: DiskCache, name: str, size: int = 10) -> None:
    cache.write(name, lambda file: file.write(name[:1].encode() * size))


def test_the_least_recently_read_goes_first_also_after_a_restart(tmp_path: Path) -> None:
    cache = cache_of(tmp_path)
    for i, name in enumerate("abc"):
        put(cache, name)
        os.utime(tmp_path / f"{name}.part", (i, i))
    assert cache.read("a", Path.read_bytes) == b"a" * 10
    again = cache_of(tmp_path)
    put(again, "d")
    assert list(again.names) == ["c", "a", "d"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.part", "c.part", "d.part"]
    assert again.n_bytes == 30


def test_a_smaller_budget_shrinks_the_folder(tmp_path: Path) -> None:
    for name in "abc":
        put(cache_of(tmp_path), name)
    assert cache_of(tmp_path, 10).n_bytes == 10
    assert len(list(tmp_path.iterdir())) == 1


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x" * 100)
    cache = cache_of(tmp_path)
    put(cache, "a")
    assert list(cache.names) == ["a"]
    assert (tmp_path / "notes.txt").exists()


def test_a_file_that_cannot_be_read_is_forgotten(tmp_path: Path) -> None:
    cache = cache_of(tmp_path)
    put(cache, "a")

    def refuse(path: Path) -> bytes:
        raise ValueError("damaged")

    assert cache.read("a", refuse) is None
    assert cache.n_bytes == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError("no space left"), ValueError("a bug")])
def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, error: Exception) -> None:
    cache = cache_of(tmp_path)
    put(cache, "a")

    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise error

    if isinstance(error, OSError):
        cache.write("b", fail)
        assert not cache.fits(0)
    else:
        with pytest.raises(ValueError, match="a bug"):
            cache.write("b", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["a.part"]


def test_no_folder_or_no_budget_keeps_nothing(tmp_path: Path) -> None:
    for cache in (cache_of(None), cache_of(tmp_path, 0)):
        put(cache, "a")
        assert not cache.fits(0)
        assert list(cache.names) == []
    assert list(tmp_path.iterdir()) == []
