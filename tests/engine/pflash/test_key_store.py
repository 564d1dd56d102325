"""Scorer keys in memory and on disk."""

from pathlib import Path

import numpy as np
import pytest

from engine.pflash.key_store import KeyStore

SHAPE = (4, 2, 1, 8)
N_BYTES = 4 * 2 * 8 * 2
DISK_BYTES = N_BYTES + 128  # with NumPy's header


def keys(value: int) -> np.ndarray:
    return np.full(SHAPE, value, np.float16)


def test_the_least_recently_used_goes_when_memory_is_full():
    store = KeyStore(2 * N_BYTES)
    store.put("a", keys(1))
    store.put("b", keys(2))
    assert store.get("a", SHAPE) is not None
    store.put("c", keys(3))
    assert store.get("b", SHAPE) is None
    assert [store.get(name, SHAPE)[0, 0, 0, 0] for name in "ac"] == [1, 3]
    assert store.n_bytes == 2 * N_BYTES


def test_keys_survive_a_restart_within_the_disk_budget(tmp_path: Path):
    store = KeyStore(10 * N_BYTES, tmp_path, 2 * DISK_BYTES)
    for i, name in enumerate("abc"):
        store.put(name, keys(i))
    assert store.n_disk_bytes <= 2 * DISK_BYTES
    again = KeyStore(10 * N_BYTES, tmp_path, 2 * DISK_BYTES)
    assert again.get("a", SHAPE) is None
    np.testing.assert_array_equal(again.get("c", SHAPE), keys(2))
    assert (again.counts.n_disk_hits, again.counts.n_misses) == (1, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.keys.npy", "c.keys.npy"]


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"not an array at all" * 10])
def test_a_damaged_file_is_forgotten(tmp_path: Path, damage: bytes):
    KeyStore(N_BYTES, tmp_path, 10 * DISK_BYTES).put("a", keys(1))
    (tmp_path / "a.keys.npy").write_bytes(damage)
    store = KeyStore(N_BYTES, tmp_path, 10 * DISK_BYTES)
    assert store.get("a", SHAPE) is None
    assert not (tmp_path / "a.keys.npy").exists()
    store.put("a", keys(2))
    assert KeyStore(N_BYTES, tmp_path, 10 * DISK_BYTES).get("a", SHAPE)[0, 0, 0, 0] == 2


def test_keys_of_another_shape_are_not_given_out(tmp_path: Path):
    KeyStore(N_BYTES, tmp_path, 10 * DISK_BYTES).put("a", keys(1))
    assert KeyStore(N_BYTES, tmp_path, 10 * DISK_BYTES).get("a", (5, 2, 1, 8)) is None


def test_a_folder_that_cannot_be_written_costs_only_the_disk(tmp_path: Path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    store = KeyStore(N_BYTES, blocked / "below", 10 * DISK_BYTES)
    store.put("a", keys(1))
    assert store.get("a", SHAPE) is not None
