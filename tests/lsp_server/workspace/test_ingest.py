import pytest

from lsp_server.workspace.ingest import FileState, Ingest
from lsp_server.workspace.records import SkipReason
from lsp_server.workspace.store import Store

STATE = FileState(1, 2, b"h")
# 27 lines each; what is left at the end, up to 60 lines, is one chunk.
PIECES = [f"def name{n}():\n" + "    pass\n" * 24 + "\n\n" for n in range(8)]


@pytest.fixture
def ingest() -> Ingest:
    return Ingest(Store(None))


def matching(ingest: Ingest, term: str) -> list[int]:
    return [
        row[0]
        for row in ingest.store.read(
            "select c.first_line from terms t join chunks c on c.id = t.rowid"
            " where terms match ? order by 1",
            (term,),
        )
    ]


def check(ingest: Ingest) -> None:
    """The full-text table agrees with itself, and the counts with the tables."""
    ingest.store.write("insert into terms (terms) values ('integrity-check')")
    [(n_chunks,)] = ingest.store.read("select count(*) from chunks")
    [(n_terms,)] = ingest.store.read("select count(*) from terms")
    assert n_chunks == n_terms == ingest.counts.n_chunks


def test_only_changed_chunks_are_hashed_and_written(ingest: Ingest) -> None:
    hashes = ingest.put("a.py", STATE, "".join(PIECES), "python")
    assert ingest.counts.n_hashed == len(hashes) == 7
    edited = [*PIECES]
    edited[2] = edited[2].replace("name2", "other2").replace("pass\n", "pass\n    more()\n", 1)
    ids = {row[0] for row in ingest.store.read("select id from chunks")}
    ingest.put("a.py", STATE, "".join(edited), "python", hashes)
    assert ingest.counts.n_hashed == 8
    assert len({row[0] for row in ingest.store.read("select id from chunks")} & ids) >= 6
    assert matching(ingest, "name2") == []
    assert matching(ingest, "other2") == [54]
    assert matching(ingest, "name7") == [6 * 27 + 1]
    check(ingest)


def test_equal_chunks_are_kept_apart(ingest: Ingest) -> None:
    piece = PIECES[0]
    hashes = ingest.put("a.py", STATE, piece * 6, "python")
    assert (len(hashes), ingest.counts.n_hashed, ingest.counts.n_chunks) == (2, 2, 5)
    ingest.put("a.py", STATE, piece * 4, "python", hashes)
    assert ingest.counts.n_hashed == 2
    assert matching(ingest, "name0") == [0, 27, 54]
    check(ingest)


def test_a_file_that_turns_out_to_be_secret_leaves_nothing(ingest: Ingest) -> None:
    ingest.put("a.py", STATE, "".join(PIECES), "python")
    ingest.skip("a.py", STATE, SkipReason.SECRET)
    assert matching(ingest, "name1") == []
    assert ingest.store.read("select count(*) from symbols") == [(0,)]
    assert (ingest.counts.n_files, ingest.counts.n_skipped) == (0, {"secret": 1})
    ingest.put("a.py", STATE, "x = 1\n", "python")
    assert (ingest.counts.n_files, ingest.counts.n_skipped) == (1, {})
    check(ingest)


def test_a_deleted_file_leaves_nothing(ingest: Ingest) -> None:
    ingest.put("a.py", STATE, "".join(PIECES), "python")
    ingest.put("b.py", STATE, "".join(PIECES[:2]), "python")
    ingest.delete("a.py")
    ingest.delete("never.py")
    assert (ingest.counts.n_files, ingest.counts.n_chunks) == (1, 1)
    assert matching(ingest, "name5") == []
    check(ingest)


def test_another_language_means_other_definitions(ingest: Ingest) -> None:
    ingest.put("a.x", STATE, "def go():\n    pass\n", "plaintext")
    assert ingest.store.read("select name from symbols") == []
    ingest.put("a.x", STATE, "def go():\n    pass\n", "python")
    assert ingest.store.read("select name from symbols") == [("go",)]
    check(ingest)
