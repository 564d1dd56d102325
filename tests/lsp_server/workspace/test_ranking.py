from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from lsp_server.workspace import Candidate
from tests.lsp_server.workspace.indexing import indexed, query_at, write_files

# Per language: the files, the document with the cursor, the file whose definition is needed, and
# the name. The others mention the name or define one like it.
SAMPLES: dict[str, tuple[dict[str, str], str, str, str, str]] = {
    "python": (
        {
            "shop/config.py": "def parse_config(path, strict=False):\n    return {}\n",
            "shop/cli.py": "# parse_config elsewhere\ndef main(config):\n    run(config)\n",
            "legacy/config.py": "def parse_config(text):\n    return None\n",
            "docs/guide.md": "# parse_config\n\nUse parse_config to parse a config.\n",
        },
        "shop/app.py",
        "from shop.config import parse_config\n\n\ndef start(path):\n    config = parse_config(‸",
        "shop/config.py",
        "parse_config",
    ),
    "typescript": (
        {
            "src/api/client.ts": "export async function fetchUser(id: string) {\n  return id;\n}\n",
            "src/models.ts": "export interface User {\n  name: string;\n}\n",
            "test/fake.ts": "export function fetchUser() {\n  return null;\n}\n",
            "src/other.ts": "// fetchUser fetchUser user\nexport const other = 1;\n",
        },
        "src/pages/profile.tsx",
        "import { fetchUser } from '../api/client';\n\nexport async function load(id: string) {\n"
        "  const user = await fetchUser(‸\n}\n",
        "src/api/client.ts",
        "fetchUser",
    ),
    "go": (
        {
            "internal/store/store.go": "package store\n\nfunc OpenStore(p string) *Store {\n}\n",
            "internal/store/doc.go": "// Package store keeps things.\npackage store\n",
            "cmd/tool/tool.go": "package tool\n\n// OpenStore is not here\nfunc Run() {\n}\n",
            "internal/mock/store.go": "package mock\n\nfunc OpenStore() *Store {\n}\n",
        },
        "cmd/app/main.go",
        'package main\n\nimport "example.com/shop/internal/store"\n\nfunc main() {\n'
        "\ts, err := store.OpenStore(‸\n}\n",
        "internal/store/store.go",
        "OpenStore",
    ),
    "rust": (
        {
            "src/parser.rs": "pub struct Parser {\n}\n\npub fn parse_line(t: &str) -> Line {\n}\n",
            "src/line.rs": "pub struct Line {\n}\n",
            "benches/old.rs": "fn parse_line(x: u8) {\n}\n",
        },
        "src/main.rs",
        "mod parser;\nuse crate::parser::parse_line;\n\nfn main() {\n    let l = parse_line(‸\n}\n",
        "src/parser.rs",
        "parse_line",
    ),
    "java": (
        {
            "src/com/acme/money/Money.java": "package com.acme.money;\n\n"
            "public final class Money {\n"
            "    public static Money parse(String text) {\n        return null;\n    }\n}\n",
            "src/com/acme/old/Money.java": "package com.acme.old;\n\npublic class Money {\n}\n",
            "src/com/acme/shop/Cart.java": "package com.acme.shop;\n\n// Money in a cart\n"
            "public class Cart {\n}\n",
        },
        "src/com/acme/shop/Checkout.java",
        "package com.acme.shop;\n\nimport com.acme.money.Money;\n\npublic class Checkout {\n"
        "    void pay() {\n        Money total = Money.‸\n    }\n}\n",
        "src/com/acme/money/Money.java",
        "Money",
    ),
    "c": (
        {
            "include/list.h": "struct list {\n  int n;\n};\n"
            "int list_append(struct list *l, int v);\n",
            "src/tree.c": '#include "tree.h"\n/* list_append */\nint tree_insert(int v) {\n}\n',
            "third/other.c": "int list_append(void *x) {\n  return 0;\n}\n",
        },
        "src/main.c",
        '#include "list.h"\n\nint main(void) {\n  struct list l;\n  list_append(‸\n}\n',
        "include/list.h",
        "list_append",
    ),
}  # fmt: skip


@pytest.mark.parametrize("language", SAMPLES)
async def test_the_imported_definition_comes_first(language: str, tmp_path: Path) -> None:
    files, path, marked, wanted, name = SAMPLES[language]
    write_files(tmp_path / "app", {**files, path: marked.replace("‸", "")})
    async with indexed(tmp_path / "app", cache=tmp_path / "cache") as index:
        found = index.candidates(query_at(tmp_path / "app", path, marked, language=language))
    best = found[0]
    assert best.chunk.path == wanted, [(c.chunk.path, c.score, c.reasons) for c in found]
    assert f"defines {name}" in best.reasons and "imported" in best.reasons
    assert path not in {c.chunk.path for c in found}
    assert best.chunk.text.splitlines()[0] == files[wanted].splitlines()[0]
    assert [c.score for c in found] == sorted((c.score for c in found), reverse=True)


FILES = {
    "core/shapes.py": "class Circle:\n    def area_of_circle(self):\n        return 3\n",
    "core/colours.py": "def mix_colours(a, b):\n    return a\n",
    "core/notes.py": "# nothing of interest\nnote = 1\n",
    "far/away.py": "unrelated = 2\n",
    "web/view.ts": "export function mix_colours() {\n}\n",
}


@pytest.fixture
async def find(tmp_path: Path) -> AsyncIterator["Find"]:
    folder = tmp_path / "app"
    write_files(folder, FILES)
    async with indexed(folder, cache=tmp_path / "cache") as index:

        def ask(marked: str, path: str = "core/main.py", **more: object) -> list[Candidate]:
            more = {"language": "python", **more}
            return index.candidates(query_at(folder, path, marked, **more))

        yield ask, folder


Find = tuple[Callable[..., list[Candidate]], Path]


def reasons(found: list[Candidate]) -> dict[str, tuple[str, ...]]:
    return {candidate.chunk.path: candidate.reasons for candidate in found}


async def test_without_an_import_the_definition_is_found_by_its_name(find: Find) -> None:
    ask, _ = find
    found = ask("mix_colours(‸")
    assert found[0].chunk.path == "core/colours.py"
    assert "defines mix_colours" in found[0].reasons and "imported" not in found[0].reasons


async def test_another_language_counts_less(find: Find) -> None:
    ask, _ = find
    by_path = {c.chunk.path: c.score for c in ask("mix_colours(‸", path="x/main.py")}
    assert 0 < by_path["web/view.ts"] < by_path["core/colours.py"]


async def test_the_word_being_typed_finds_definitions_that_begin_so(find: Find) -> None:
    ask, _ = find
    assert ask("mix_co‸")[0].chunk.path == "core/colours.py"


async def test_what_the_document_defines_itself_is_not_looked_up(find: Find) -> None:
    ask, _ = find
    found = reasons(ask("def mix_colours(a):\n    pass\n\nmix_colours(‸", path="far/main.py"))
    assert "defines mix_colours" not in found.get("core/colours.py", ())


async def test_nearer_names_count_more(find: Find) -> None:
    ask, _ = find
    filler = "# " + "and more of it " * 200 + "\n"
    assert ask(f"mix_colours\n{filler}Circle‸ ", path="x.py")[0].chunk.path == "core/shapes.py"
    assert ask(f"Circle\n{filler}mix_colours ‸", path="x.py")[0].chunk.path == "core/colours.py"


async def test_words_of_names_find_texts(find: Find) -> None:
    ask, _ = find
    found = reasons(ask("circle_radius ‸", path="x.py"))
    assert found["core/shapes.py"] == ("mentions circle_radius",)


async def test_open_and_recent_documents_are_raised(find: Find) -> None:
    ask, folder = find
    uris = {
        "open_uris": ((folder / "far/away.py").as_uri(), "untitled:1"),
        "recent_uris": ((folder / "core/notes.py").as_uri(),),
    }
    found = ask("x = 1‸", **uris)
    assert [c.chunk.path for c in found[:2]] == ["core/notes.py", "far/away.py"]
    assert set(found[0].reasons) == {"recent edit", "same folder"}
    assert found[1].reasons == ("open tab",)


async def test_a_document_outside_of_every_folder_is_helped_as_well(find: Find) -> None:
    ask, folder = find
    assert not (folder.parent / "elsewhere.py").is_relative_to(folder)
    found = ask("mix_colours(‸", path="../elsewhere.py")
    assert found[0].chunk.path == "core/colours.py"


async def test_strange_queries_find_nothing_and_raise_nothing(find: Find) -> None:
    ask, _ = find
    for text in ('"‸', "‸", "\ud800 ‸", "'\"* OR NEAR(‸", "AND NOT ‸ OR", "x" * 500 + "‸"):
        assert isinstance(ask(text, path="z/ü.py"), list)
