"""How a language writes comments, strings and blocks: one row per family, no grammar.

The rules that use this table must be right for code that is half written, where a parser has
nothing to say; indentation, brackets and the last word of a line are what is left.
"""

import re
from dataclasses import dataclass
from functools import cached_property

# After one of these, or a letter or digit, # begins no comment: `$#`, `${#name}`, `colour_#1`.
GLUE = "_${\"'"


@dataclass(frozen=True, kw_only=True)
class Language:
    """What stopping and trimming need to know of a language.

    `quotes` delimit strings that end with their line, `long_quotes` strings that may span lines.
    `opener` matches the end of a line (without its comment) that a block must follow, `closer`
    the start of a line that ends or continues such a block at the block head's indentation.
    """

    line_comments: tuple[str, ...] = ()
    block_comments: tuple[tuple[str, str], ...] = ()
    quotes: tuple[str, ...] = ('"', "'")
    long_quotes: tuple[str, ...] = ()
    opener: re.Pattern[str] = re.compile(r"[{(\[]$|=>$")
    closer: re.Pattern[str] = re.compile(r"[})\]]|(else|catch|finally)\b")
    terminators: tuple[str, ...] = ()
    jump: re.Pattern[str] = re.compile(r"(return|break|continue|throw|goto)\b")
    has_brackets: bool = True
    is_prose: bool = False

    @cached_property
    def markers(self) -> frozenset[str]:
        """The characters of what comments and strings begin with."""
        openings = (*self.line_comments, *(opening for opening, _ in self.block_comments))
        return frozenset("".join((*openings, *self.quotes, *self.long_quotes)))

    @cached_property
    def dull_run(self) -> re.Pattern[str]:
        """Match code a reader of brackets may skip: whole strings and comments, and plain text."""
        glue = rf"[\w{re.escape(GLUE)}]"
        openings = [*(opening for opening, _ in self.block_comments), *self.line_comments]
        begins = sorted({opening[0] for opening in openings})
        specials = "()[]{}'" + "".join((*begins, *self.quotes, *self.long_quotes))

        tokens = [rf"[^{re.escape(specials)}]++"]
        tokens += [rf"{re.escape(a)}.*?{re.escape(b)}" for a, b in self.block_comments]
        for marker in self.line_comments:
            not_glued = f"(?<!{glue})" if marker == "#" else ""
            tokens.append(rf"{not_glued}{re.escape(marker)}[^\n]*\n")
        tokens += [rf"{quote}(?:[^\\]|\\.)*?{quote}" for quote in self.long_quotes]
        for quote in self.quotes:
            not_long = f"(?!{quote * 2})" if quote * 3 in self.long_quotes else ""
            tokens.append(rf"{quote}{not_long}(?:[^{quote}\\\n]|\\.)*{quote}")
        for char in begins:
            alike = "|".join(re.escape(opening) for opening in openings if opening[0] == char)
            not_opening = f"(?<={glue})" if alike == r"\#" else f"(?!{alike})"
            tokens.append(not_opening + re.escape(char))
        return re.compile(f"(?:{'|'.join(tokens)})++", re.DOTALL)


_C_FAMILY = Language(
    line_comments=("//",),
    block_comments=(("/*", "*/"),),
    opener=re.compile(r"[{(\[]$|=>$|\b(case\b.*|default)\s*:$"),
    terminators=(";",),
)
_SCRIPT = Language(
    line_comments=("//",),
    block_comments=(("/*", "*/"),),
    long_quotes=("`",),
    opener=_C_FAMILY.opener,
    terminators=(";",),
)
# A lone ' begins a lifetime as often as a character, so it opens nothing.
_RUST = Language(
    line_comments=("//",), block_comments=(("/*", "*/"),), quotes=('"',), terminators=(";",)
)
_GO = Language(
    line_comments=("//",),
    block_comments=(("/*", "*/"),),
    long_quotes=("`",),
    opener=_C_FAMILY.opener,
)
_PYTHON = Language(
    line_comments=("#",),
    long_quotes=('"""', "'''"),
    opener=re.compile(r"[{(\[:]$"),
    closer=re.compile(r"[})\]]|(else|elif|except|finally)\b"),
    jump=re.compile(r"(return|break|continue|raise)\b"),
)
_YAML = Language(
    line_comments=("#",),
    opener=re.compile(r"[{\[:]$|[|>][+-]?$"),
    closer=re.compile(r"[}\]]"),
    jump=re.compile(r"(?!)"),
)
_JSON = Language(
    line_comments=("//",),
    block_comments=(("/*", "*/"),),
    quotes=('"',),
    closer=re.compile(r"[}\]]"),
    jump=re.compile(r"(?!)"),
)
_SHELL = Language(
    line_comments=("#",),
    opener=re.compile(r"[{(]$|\b(then|do|else|in)$"),
    closer=re.compile(r"[})]|(fi|done|esac|else|elif)\b"),
    jump=re.compile(r"(return|break|continue|exit)\b"),
)
_LUA = Language(
    line_comments=("--",),
    opener=re.compile(r"[{(]$|\b(then|do|else|repeat)$|\bfunction\b[^()]*\([^()]*\)$"),
    closer=re.compile(r"[})]|(end|else|elseif|until)\b"),
    jump=re.compile(r"(return|break)\b"),
)
_RUBY = Language(
    line_comments=("#",),
    opener=re.compile(
        r"[{(\[]$|\bdo(\s*\|[^|]*\|)?$|\b(then|else|begin|ensure|rescue)$"
        r"|^\s*(def|class|module|if|unless|while|until|case|when|for)\b.*$"
    ),
    closer=re.compile(r"[})\]]|(end|else|elsif|when|rescue|ensure)\b"),
    jump=re.compile(r"(?!)"),
)
_SQL = Language(
    line_comments=("--",),
    block_comments=(("/*", "*/"),),
    closer=re.compile(r"\)|END\b", re.IGNORECASE),
    terminators=(";",),
    jump=re.compile(r"(?!)"),
)
_VOID_TAGS = "area|base|br|col|embed|hr|img|input|link|meta|source|track|wbr"
_MARKUP = Language(
    block_comments=(("<!--", "-->"),),
    quotes=('"',),
    opener=re.compile(rf"<(?!/|!|\?|(?:{_VOID_TAGS})\b)[\w:-]+(?:\s[^<>]*)?(?<!/)>$"),
    closer=re.compile(r"</"),
    jump=re.compile(r"(?!)"),
    has_brackets=False,
)
_PROSE = Language(
    quotes=(),
    opener=re.compile(r"(?!)"),
    closer=re.compile(r"(?!)"),
    jump=re.compile(r"(?!)"),
    has_brackets=False,
    is_prose=True,
)
_HASH_COMMENT = Language(line_comments=("#",), opener=re.compile(r"[{(\[:]$"))
_CSS = Language(
    block_comments=(("/*", "*/"),),
    closer=re.compile(r"[})]"),
    terminators=(";",),
    jump=re.compile(r"(?!)"),
)

# A language this table lacks: nothing is known to be a comment, and ' may be an apostrophe.
_OTHER = Language(quotes=('"',), opener=re.compile(r"[{(\[:]$|=>$"))

_FAMILIES: tuple[tuple[Language, str], ...] = (
    (_C_FAMILY, "c cpp cuda-cpp objective-c objective-cpp java csharp kotlin scala dart php"),
    (_C_FAMILY, "swift groovy zig proto3 proto solidity glsl hlsl"),
    (_SCRIPT, "javascript javascriptreact typescript typescriptreact"),
    (_RUST, "rust"),
    (_GO, "go"),
    (_PYTHON, "python cython starlark"),
    (_YAML, "yaml dockercompose github-actions-workflow"),
    (_JSON, "json jsonc json5"),
    (_SHELL, "shellscript sh bash zsh fish"),
    (_LUA, "lua"),
    (_RUBY, "ruby crystal elixir"),
    (_SQL, "sql plsql"),
    (_MARKUP, "html xml svg vue svelte xsl astro"),
    (_PROSE, "markdown plaintext text restructuredtext latex tex git-commit gitcommit asciidoc"),
    (_HASH_COMMENT, "toml ini properties makefile dockerfile cmake perl r julia nim terraform"),
    (_CSS, "css scss less"),
)
_BY_LANGUAGE_ID = {name: family for family, names in _FAMILIES for name in names.split()}
_BY_SUFFIX = {
    suffix: _BY_LANGUAGE_ID[language_id]
    for language_id, suffixes in {
        "c": "c h cc cpp hpp cxx hh cu cuh m mm java cs kt kts scala dart php swift zig proto",
        "typescript": "js jsx mjs cjs ts tsx mts cts",
        "rust": "rs",
        "go": "go",
        "python": "py pyi pyx bzl",
        "yaml": "yaml yml",
        "json": "json jsonc json5 ipynb",
        "shellscript": "sh bash zsh fish",
        "lua": "lua",
        "ruby": "rb cr ex exs",
        "sql": "sql",
        "html": "html htm xml svg vue svelte",
        "markdown": "md markdown txt rst tex",
        "toml": "toml ini cfg conf mk cmake pl r jl nim tf",
        "css": "css scss less",
    }.items()
    for suffix in suffixes.split()
}


def language_of(language_id: str, path: str) -> Language:
    """Choose by the editor's language id, else by the file's suffix, else assume little."""
    if (family := _BY_LANGUAGE_ID.get(language_id.lower())) is not None:
        return family
    suffix = path.rpartition(".")[2].lower() if "." in path else ""
    return _BY_SUFFIX.get(suffix, _OTHER)
