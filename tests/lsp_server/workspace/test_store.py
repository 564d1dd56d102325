import os
import sqlite3
from pathlib import Path

import pytest
from filelock import Timeout

from lsp_server.workspace import store as stores
from lsp_server.workspace.ingest import FileState, Ingest
from lsp_server.workspace.store import Store, forget_unused, is_damage, open_store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index" / "a.db"


def filled(path: Path) -> None:
    store = Store(path)
    Ingest(store).put("a.py", FileState(1, 2, b"h"), "def alpha():\n    pass\n", "python")
    store.close()


def n_files(store: Store) -> int:
    return store.read("select count(*) from files")[0][0]


def test_what_was_stored_is_there_the_next_time(path: Path) -> None:
    filled(path)
    store = open_store(path, pytest.fail)
    assert n_files(store) == 1
    assert store.bytes_on_disk > 0
    store.close()


def test_others_cannot_read_the_folder(path: Path) -> None:
    filled(path)
    assert os.stat(path.parent).st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "content", [b"no database at all" * 100, b"SQLite format 3\0" + b"x" * 5000]
)
def test_a_file_that_is_no_database_is_made_anew(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    warnings: list[str] = []
    store = open_store(path, warnings.append)
    assert (store.path, n_files(store)) == (path, 0)
    assert len(warnings) == 1 and "made anew" in warnings[0]
    store.close()


def test_a_file_that_was_cut_short_is_made_anew(path: Path) -> None:
    filled(path)
    os.truncate(path, 6000)
    warnings: list[str] = []
    store = open_store(path, warnings.append)
    assert (store.path, n_files(store)) == (path, 0)
    assert len(warnings) == 1
    store.close()


def test_tables_of_another_version_are_made_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(path)
    monkeypatch.setattr(stores, "SCHEMA_VERSION", stores.SCHEMA_VERSION + 1)
    store = open_store(path, pytest.fail)
    assert (store.path, n_files(store)) == (path, 0)
    store.close()


def test_a_second_server_keeps_its_own_in_memory(path: Path) -> None:
    first = Store(path)
    with pytest.raises(Timeout):
        Store(path)
    warnings: list[str] = []
    second = open_store(path, warnings.append)
    assert second.path is None and len(warnings) == 1
    second.close()
    first.close()
    again = open_store(path, pytest.fail)
    assert again.path == path
    again.close()


def test_a_folder_that_cannot_be_made_means_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    warnings: list[str] = []
    store = open_store(tmp_path / "file" / "index" / "a.db", warnings.append)
    assert store.path is None and "in memory" in warnings[0]
    store.close()


def test_readers_do_not_wait_for_the_writer_and_see_what_was_committed(path: Path) -> None:
    store = Store(path)
    store.begin()
    Ingest(store).put("a.py", FileState(1, 2, b"h"), "x = 1\n", "python")
    assert n_files(store) == 0
    store.commit()
    assert n_files(store) == 1
    store.close()


def test_damage_is_told_from_what_surrounds_the_file() -> None:
    assert is_damage(sqlite3.DatabaseError("database disk image is malformed"))
    assert is_damage(sqlite3.OperationalError("no such table: files"))
    assert not is_damage(sqlite3.OperationalError("database or disk is full"))
    assert not is_damage(sqlite3.OperationalError("database is locked"))


def test_indexes_that_nobody_opens_are_forgotten(path: Path) -> None:
    filled(path)
    changed_s = path.stat().st_mtime
    forget_unused(path.parent, 100.0, changed_s + 50.0)
    assert path.exists()
    open_one = Store(path)
    forget_unused(path.parent, 100.0, changed_s + 500.0)
    assert path.exists()
    open_one.close()
    forget_unused(path.parent, 100.0, path.stat().st_mtime + 500.0)
    assert list(path.parent.glob("*.db*")) == []
