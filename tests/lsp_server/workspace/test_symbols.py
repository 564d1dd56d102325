import pytest

from lsp_server.workspace.symbols import symbols_of

CASES = {
    "python": (
        "LIMIT: int = 3\nclass Reader(Base):\n    @property\n    async def read_all(self):\n"
        "        local = 1\n        return local == 2\n\ndef main(): pass\n",
        {"LIMIT": 0, "Reader": 1, "read_all": 3, "main": 7},
    ),
    "typescript": (
        "export const LIMIT = 3;\nexport default class Reader {\n"
        "  private async readAll(): Promise<X> {\n"
        "    if (done) {\n      while (x) {\n      }\n    }\n    const local = 1;\n  }\n}\n"
        "export interface Shape {\n}\nexport type Id = string;\nfunction* each() {}\n",
        {"LIMIT": 0, "Reader": 1, "readAll": 2, "Shape": 10, "Id": 12, "each": 13},
    ),
    "go": (
        "package a\n\ntype Reader struct {\n\tn int\n}\n\nfunc (r *Reader) ReadAll() {\n}\n"
        "func Parse(s string) {\n}\nconst Limit = 3\n",
        {"Reader": 2, "ReadAll": 6, "Parse": 8, "Limit": 10},
    ),
    "rust": (
        "pub struct Reader<'a> {\n}\nimpl Reader<'_> {\n    pub(crate) async fn read_all(&self) {\n"
        "        let local = 1;\n    }\n}\npub const LIMIT: usize = 3;\nmacro_rules! each {\n}\n"
        "pub trait Shape {}\n",
        {"Reader": 0, "read_all": 3, "LIMIT": 7, "each": 8, "Shape": 10},
    ),
    "java": (
        "package a;\npublic final class Reader extends Base {\n"
        "    private static final int LIMIT = 3;\n    public Reader(int n) {\n    }\n"
        "    @Override\n    public List<String> readAll(int a) throws X {\n"
        "        return other(a);\n    }\n    int plain() {\n    }\n}\ninterface Shape {\n}\n",
        {"Reader": 1, "LIMIT": 2, "readAll": 6, "plain": 9, "Shape": 12},
    ),
    "c": (
        "#define LIMIT 3\ntypedef struct reader {\n  int n;\n} reader_t;\n"
        "static int read_all(reader_t *r, int n) {\n  if (n) {\n  }\n  return other(n);\n}\n"
        "int\ngnu_style(int a)\n{\n}\nvoid declared(int a);\nenum colour {\n  RED\n};\n",
        {"LIMIT": 0, "reader": 1, "reader_t": 3, "read_all": 4, "gnu_style": 9, "declared": 13,
         "colour": 14},
    ),
    "cpp": (
        "namespace a {\nclass Reader : public Base {\n public:\n  int size() const { return 1; }\n"
        "  virtual void go(int n) = 0;\n};\ntemplate <typename T>\nstruct Box {\n};\n}\n"
        "void Reader::run(int n) {\n}\nusing Id = int;\n",
        {"Reader": 1, "size": 3, "go": 4, "Box": 7, "run": 10, "Id": 12},
    ),
    "ruby": ("module A\n  class B\n    def self.go(x)\n    end\n", {"A": 0, "B": 1, "go": 2}),
    "lua": ("local function go()\nend\nfunction M.run(a)\nend\n", {"go": 0, "run": 2}),
    "shellscript": ("LIMIT=3\ngo() {\n}\nfunction run() {\n}\n", {"LIMIT": 0, "go": 1, "run": 3}),
    "php": ("<?php\nfinal class A {\n  public function go($x) {}\n}\n", {"A": 1, "go": 2}),
}  # fmt: skip


@pytest.mark.parametrize("language", CASES)
def test_definitions_are_found_on_their_lines_and_nothing_else(language: str) -> None:
    text, expected = CASES[language]
    found: dict[str, int] = {}
    for symbol in symbols_of(text, language):
        found.setdefault(symbol.name, symbol.line)
    assert found == expected


def test_a_signature_goes_on_until_its_parameters_end() -> None:
    (symbol,) = symbols_of("def go(\n    a: int,\n    b: int,\n) -> str:\n    return a\n", "python")
    assert symbol.signature == "def go( a: int, b: int, ) -> str:"
    gnu = symbols_of("static int\ngo(int a)\n{\n}\n", "c")
    assert [s.signature for s in gnu] == ["static int go(int a)"]


def test_a_language_without_patterns_defines_nothing() -> None:
    assert symbols_of("def go(): pass\n", "markdown") == []


def test_a_long_text_of_one_kind_takes_no_time() -> None:
    """Patterns must not try every way to read a line that matches none."""
    line = "a b c d e f g h " * 120 + "\n"
    for language in CASES:
        assert symbols_of(line * 20, language) == []
