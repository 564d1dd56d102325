import pytest

from lsp_server.workspace.imports import imports_of

PLACE = "app/web/main.x"


@pytest.mark.parametrize(
    ("language", "text", "path", "names"),
    [
        (
            "python",
            "from ledger.money import Amount, parse as p\n",
            "ledger/money.py",
            "Amount parse",
        ),
        ("python", "from ledger import money\n", "ledger/money.py", "money"),
        ("python", "from . import (\n    helpers,\n)\n", "app/web/helpers.py", "helpers"),
        ("python", "from ..core.config import load\n", "app/core/config.py", "load"),
        ("python", "import ledger.money as m, os\n", "ledger/money.py", ""),
        ("typescript", "import { a, type B } from './util';\n", "app/web/util.ts", "a B"),
        ("typescript", "import D, {\n  x as y,\n} from '../lib'\n", "app/lib/index.ts", "D x y"),
        ("typescript", "import api from '@/api/client'\n", "api/client.ts", "api"),
        ("typescript", "export * from './all.js'\n", "app/web/all.ts", ""),
        ("javascript", "const { go } = require('./go')\n", "app/web/go.js", "go"),
        ("go", 'import (\n\t"fmt"\n\tx "example.com/m/pkg/util"\n)\n', "pkg/util/*", ""),
        ("go", "package web\n", "app/web/*", ""),
        ("rust", "use crate::{config::{Config}, load::*};\n", "config.rs", "Config"),
        ("rust", "use super::shapes::Circle;\n", "shapes.rs", "Circle"),
        ("rust", "mod parser;\n", "app/web/parser.rs", ""),
        ("rust", "use my_crate::parse;\n", "my-crate/src/lib.rs", "parse"),
        ("java", "import com.acme.Money;\n", "com/acme/Money.java", "Money"),
        ("java", "import static com.acme.Money.parse;\n", "com/acme/Money.java", "parse"),
        ("java", "import com.acme.*;\n", "com/acme/*", ""),
        ("c", '#include "../util/list.h"\n', "app/util/list.h", ""),
        ("cpp", "#  include <core/vec.hpp>\n", "core/vec.hpp", ""),
        ("ruby", "require_relative 'money'\n", "app/web/money.rb", ""),
        ("lua", "local m = require('core.money')\n", "core/money.lua", ""),
    ],
)
def test_imports_name_the_files_they_may_mean(
    language: str, text: str, path: str, names: str
) -> None:
    found = [one for one in imports_of(text, language, PLACE) if path in one.paths]
    assert len(found) == 1, imports_of(text, language, PLACE)
    assert found[0].names == tuple(names.split())


@pytest.mark.parametrize("language", ["python", "typescript", "go", "rust", "java", "c", "lua"])
def test_half_written_imports_are_harmless(language: str) -> None:
    for text in (
        "import",
        "from . import (",
        "use a::{b, {",
        'import ("',
        "#include <",
        "import {",
    ):
        imports_of(text, language, "a.x")


def test_a_language_without_a_reader_imports_nothing() -> None:
    assert imports_of("import os\n", "markdown", "a.md") == []
