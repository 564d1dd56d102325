"""A server process that indexes a folder, follows its changes and completes meanwhile."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.raw_client import TIMEOUT_S, RawClient
from tests.lsp_server.workspace.indexing import write_files

pytestmark = pytest.mark.e2e

WATCHES = {"workspace": {"didChangeWatchedFiles": {"dynamicRegistration": True}}}
N_FILES = 5000


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RawClient]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    client = RawClient()
    yield client
    client.end()


def begin(client: RawClient, folder: Path) -> None:
    client.initialize(
        capabilities=WATCHES, workspaceFolders=[{"uri": folder.as_uri(), "name": "app"}]
    )
    asked = client.next(method="client/registerCapability")
    client.send(id=asked["id"], result=None)


def index_of(client: RawClient) -> dict[str, Any]:
    return client.request("flash/status")["index"] or {"isBuilding": True, "files": 0}


def wait_for_files(client: RawClient, n_files: int) -> dict[str, Any]:
    end = time.monotonic() + 3 * TIMEOUT_S
    while (status := index_of(client))["isBuilding"] or status["files"] != n_files:
        assert time.monotonic() < end, status
        time.sleep(0.02)
    return status


def test_a_changed_file_is_seen(client: RawClient, tmp_path: Path) -> None:
    folder = tmp_path / "app"
    write_files(folder, {"a.py": "def alpha(): pass\n", ".env": "KEY=1\n"})
    begin(client, folder)
    status = wait_for_files(client, 1)
    assert (status["chunks"], status["skipped"]) == (1, {"secret": 1})
    write_files(folder, {"b.py": "def beta(): pass\n"})
    changes = [{"uri": (folder / "b.py").as_uri(), "type": 1}]
    client.send(method="workspace/didChangeWatchedFiles", params={"changes": changes})
    assert wait_for_files(client, 2)["chunksRehashed"] == 2


def test_a_completion_does_not_wait_for_the_index(client: RawClient, tmp_path: Path) -> None:
    body = "".join(f"    value_{n} = compute_{n}(value)\n" for n in range(40))
    files = {f"p{n % 50}/m{n}.py": f"def name_{n}(value):\n{body}" for n in range(N_FILES)}
    write_files(tmp_path / "app", files)
    begin(client, tmp_path / "app")
    while not index_of(client)["files"]:
        time.sleep(0.01)
    client.open("def add(a, b):\n    \n")
    assert client.complete() == "return a + b"
    assert index_of(client)["isBuilding"]
    wait_for_files(client, N_FILES)
