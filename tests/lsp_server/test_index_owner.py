from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from lsp_server.documents import Document, PositionEncoding
from lsp_server.index_owner import IndexOwner
from lsp_server.workspace import IndexOptions, IndexStatus
from tests.lsp_server.workspace.indexing import until, write_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(tmp_path / "app", {"a.py": "def alpha(): pass\n"})
    return tmp_path / "app"


@pytest.fixture
def options(tmp_path: Path) -> IndexOptions:
    return IndexOptions(cache_dir=tmp_path / "cache")


@pytest.fixture
async def heard() -> list[IndexStatus]:
    return []


@pytest.fixture
async def owner(heard: list[IndexStatus]) -> AsyncIterator[IndexOwner]:
    owner = IndexOwner(lambda: False, heard.append)
    yield owner
    await owner.close()


def n_files(owner: IndexOwner) -> Callable[[], bool]:
    return lambda: owner.status is not None and not owner.status.is_building


async def test_without_options_or_folders_there_is_no_index(
    owner: IndexOwner, options: IndexOptions, folder: Path
) -> None:
    await owner.apply(None, [folder.as_uri()], [])
    assert owner.status is None
    await owner.apply(options, [], [])
    assert owner.status is None


async def test_the_same_choice_keeps_the_index_and_another_replaces_it(
    owner: IndexOwner, options: IndexOptions, folder: Path, heard: list[IndexStatus]
) -> None:
    await owner.apply(options, [folder.as_uri()], [])
    first = owner.index
    await owner.apply(options, [folder.as_uri()], [])
    assert owner.index is first
    await until(lambda: heard and not heard[-1].is_building)
    assert heard[-1].n_files == 1
    await owner.apply(IndexOptions(cache_dir=options.cache_dir, max_files=7), [folder.as_uri()], [])
    assert owner.index is not first
    await owner.apply(None, [folder.as_uri()], [])
    assert owner.index is None


async def test_open_documents_are_told_to_a_new_index(
    owner: IndexOwner, options: IndexOptions, folder: Path
) -> None:
    text = "def opened(): pass\n"
    document = Document((folder / "a.py").as_uri(), "python", 1, text, PositionEncoding.UTF16)
    await owner.apply(options, [folder.as_uri()], [document])
    assert owner.index is not None
    await until(lambda: owner.index and owner.index.signatures(["opened"]))
    owner.document_closed(document.uri)
    await until(lambda: owner.index and owner.index.signatures(["alpha"]))


async def test_without_a_watching_client_files_are_looked_for_now_and_then(
    owner: IndexOwner, options: IndexOptions, folder: Path
) -> None:
    await owner.apply(options, [folder.as_uri()], [])
    await until(n_files(owner))
    write_files(folder, {"b.py": "def beta(): pass\n"})
    owner.rescan_if_unwatched()
    await until(lambda: owner.index and owner.index.signatures(["beta"]))


async def test_after_closing_nothing_starts(
    owner: IndexOwner, options: IndexOptions, folder: Path
) -> None:
    await owner.close()
    await owner.apply(options, [folder.as_uri()], [])
    assert owner.index is None
