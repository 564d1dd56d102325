"""What a text defines: names, their kinds and heads, by one table of patterns for all languages.

Patterns see one line's beginning and need no finished code. They find what another file may use:
functions, types, methods and constants; not local variables.
"""

import re
from collections.abc import Iterator
from functools import cache

import msgspec

_MOST_HEAD_LINES = 6
_MOST_HEAD_CHARS = 240
_NAME = r"([^\W\d]\w*)"

_JAVA_MODIFIERS = (
    r"(?:@\w+(?:\([^)\n]*\))?[ \t]+|(?:public|private|protected|internal|static|final|abstract"
    r"|sealed|synchronized|native|async|override|virtual|readonly|partial|default|data|open|inline"
    r"|suspend|implicit|case)[ \t]+)*"
)
_RUST_MODIFIERS = r"(?:pub(?:\([^)\n]*\))?[ \t]+)?(?:(?:async|const|unsafe|default)[ \t]+)*"
_TS_MODIFIERS = r"(?:(?:export|default|declare|abstract|async)[ \t]+)*"
_TS_MEMBER = (
    r"(?:(?:public|private|protected|static|readonly|async|override|abstract|get|set)[ \t]+)*"
)
_NO_CONTROL = r"(?!(?:if|for|while|switch|catch|return|else|do|new|throw|function|super|with)\b)"
_C_TYPE = (
    r"(?!(?:return|else|typedef|using|goto|case|new|delete|throw|if|for|while|switch)\b)"
    r"[A-Za-z_][\w:<>,*&\t ]*?[\s*&]"
)

# (languages, ((kind, pattern), ...)): each pattern begins at a line's start and has one group.
_TABLE: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "python cython starlark",
        (
            ("function", rf"[ \t]*(?:async[ \t]+)?def[ \t]+{_NAME}"),
            ("class", rf"[ \t]*class[ \t]+{_NAME}"),
            ("type", rf"type[ \t]+{_NAME}[^=\n]*="),
            ("constant", r"([A-Za-z_]\w*)[ \t]*(?::[^=\n]+)?=(?!=)"),
        ),
    ),
    (
        "javascript javascriptreact typescript typescriptreact html",
        (
            ("function", rf"[ \t]*{_TS_MODIFIERS}function[ \t]*\*?[ \t]*{_NAME}"),
            ("class", rf"[ \t]*{_TS_MODIFIERS}class[ \t]+{_NAME}"),
            ("type", rf"[ \t]*{_TS_MODIFIERS}(?:interface|type|enum|namespace)[ \t]+{_NAME}"),
            ("type", rf"[ \t]*{_TS_MODIFIERS}const[ \t]+enum[ \t]+{_NAME}"),
            ("constant", rf"{_TS_MODIFIERS}(?:const|let|var)[ \t]+{_NAME}"),
            (
                "method",
                rf"[ \t]+{_TS_MEMBER}{_NO_CONTROL}#?{_NAME}[ \t]*(?:<[^>\n]*>)?\([^;\n]*\{{",
            ),
        ),
    ),
    (
        "go",
        (
            ("method", rf"func[ \t]*\([^)\n]*\)[ \t]*{_NAME}"),
            ("function", rf"func[ \t]+{_NAME}"),
            ("type", rf"type[ \t]+{_NAME}"),
            ("type", rf"\t{_NAME}[ \t]+(?:struct|interface)[ \t]*\{{"),
            ("constant", rf"(?:const|var)[ \t]+{_NAME}"),
        ),
    ),
    (
        "rust",
        (
            (
                "function",
                rf'[ \t]*{_RUST_MODIFIERS}(?:extern[ \t]+"[^"\n]*"[ \t]+)?fn[ \t]+{_NAME}',
            ),
            ("type", rf"[ \t]*{_RUST_MODIFIERS}(?:struct|enum|trait|union|type)[ \t]+{_NAME}"),
            (
                "constant",
                rf"[ \t]*{_RUST_MODIFIERS}(?:static|const)[ \t]+(?:mut[ \t]+)?{_NAME}[ \t]*:",
            ),
            ("macro", rf"[ \t]*macro_rules![ \t]*{_NAME}"),
            ("module", rf"{_RUST_MODIFIERS}mod[ \t]+{_NAME}"),
        ),
    ),
    (
        "java csharp kotlin scala groovy dart",
        (
            (
                "type",
                rf"[ \t]*{_JAVA_MODIFIERS}(?:class|interface|enum|record|struct|object|trait"
                rf"|@interface)[ \t]+{_NAME}",
            ),
            ("function", rf"[ \t]*{_JAVA_MODIFIERS}(?:fun|def)[ \t]+(?:<[^>\n]*>[ \t]*)?{_NAME}"),
            (
                "method",
                rf"[ \t]*{_JAVA_MODIFIERS}(?:<[^>\n]+>[ \t]+)?{_NO_CONTROL}"
                rf"[A-Za-z_][\w.<>,?\[\]]*(?:[ \t]*<[^>\n]*>)?[ \t]+{_NAME}[ \t]*\([^;\n]*$",
            ),
            (
                "method",
                rf"[ \t]*(?:public|private|protected)[ \t]+{_NO_CONTROL}{_NAME}[ \t]*\(",
            ),
            ("method", rf"[ \t]+{_NO_CONTROL}[A-Z][\w.<>,?\[\]]*[ \t]+{_NAME}[ \t]*\([^)\n]*\);$"),
            (
                "constant",
                rf"[ \t]*(?:[a-z]+[ \t]+)*(?:static|const|val)[ \t]+(?:[\w.<>\[\],]+[ \t]+)*"
                rf"{_NAME}[ \t]*(?::[^=\n]*)?=",
            ),
        ),
    ),
    (
        "c cpp cuda-cpp objective-c objective-cpp",
        (
            ("macro", rf"[ \t]*#[ \t]*define[ \t]+{_NAME}"),
            (
                "type",
                rf"[ \t]*(?:typedef[ \t]+)?(?:template[ \t]*<[^;{{]*>[ \t]*)?"
                rf"(?:enum[ \t]+class|enum[ \t]+struct|class|struct|union|enum)[ \t]+"
                rf"(?:alignas\([^)]*\)[ \t]*)?{_NAME}(?=[^;()\n]*(?:\{{|$))",
            ),
            ("type", rf"\}}[ \t]*{_NAME}[ \t]*;"),
            ("type", rf"[ \t]*(?:using[ \t]+{_NAME}[ \t]*=)"),
            ("type", rf"[ \t]*typedef[ \t]+[^;{{\n]*?\b{_NAME}[ \t]*;"),
            ("function", rf"{_C_TYPE}(?:\w+::)*~?{_NAME}[ \t]*\([^;\n]*(?:\)[^;\n]*\{{?|,)[ \t]*$"),
            ("function", rf"{_C_TYPE}(?:\w+::)*{_NAME}[ \t]*\([^;\n{{}}]*\)[^;\n{{}}=]*;[ \t]*$"),
            ("method", rf"[ \t]+{_C_TYPE}~?{_NAME}[ \t]*\([^;\n]*\)[^;\n]*\{{"),
            (
                "method",
                rf"[ \t]+(?:(?:virtual|static|inline|const)[ \t]+)+[\w:<>*& \t]*?[\s*&]"
                rf"{_NAME}[ \t]*\([^;\n]*\)[^;\n]*;",
            ),
        ),
    ),
    (
        "ruby",
        (
            ("function", rf"[ \t]*def[ \t]+(?:self\.)?{_NAME}"),
            ("class", rf"[ \t]*(?:class|module)[ \t]+{_NAME}"),
            ("constant", r"[ \t]*([A-Z][A-Z0-9_]*)[ \t]*="),
        ),
    ),
    (
        "php",
        (
            ("function", rf"[ \t]*{_JAVA_MODIFIERS}function[ \t]+&?{_NAME}"),
            ("class", rf"[ \t]*{_JAVA_MODIFIERS}(?:class|interface|trait|enum)[ \t]+{_NAME}"),
            ("constant", rf"[ \t]*{_JAVA_MODIFIERS}const[ \t]+{_NAME}"),
        ),
    ),
    (
        "lua",
        (
            ("function", rf"[ \t]*(?:local[ \t]+)?function[ \t]+(?:\w+[.:])*{_NAME}"),
            ("function", rf"[ \t]*(?:local[ \t]+|\w+\.){_NAME}[ \t]*=[ \t]*function\b"),
        ),
    ),
    (
        "shellscript",
        (
            ("function", rf"[ \t]*(?:function[ \t]+)?{_NAME}[ \t]*\(\)"),
            ("constant", r"(?:export[ \t]+|readonly[ \t]+)?([A-Z_][A-Z0-9_]+)="),
        ),
    ),
    (
        "swift",
        (
            ("function", rf"[ \t]*(?:@\w+[ \t]+|[a-z]+(?:\(set\))?[ \t]+)*func[ \t]+{_NAME}"),
            (
                "type",
                rf"[ \t]*(?:[a-z]+[ \t]+)*(?:class|struct|enum|protocol|actor|extension|typealias)"
                rf"[ \t]+{_NAME}",
            ),
        ),
    ),
    (
        "zig",
        (
            ("function", rf"[ \t]*(?:pub[ \t]+)?(?:inline[ \t]+|export[ \t]+)?fn[ \t]+{_NAME}"),
            ("constant", rf"[ \t]*(?:pub[ \t]+)(?:const|var)[ \t]+{_NAME}"),
        ),
    ),
    (
        "sql",
        (("type", rf"(?i:[ \t]*create[ \t]+(?:or[ \t]+replace[ \t]+)?\w+[ \t]+){_NAME}"),),
    ),
    ("proto3", (("type", rf"[ \t]*(?:message|enum|service|rpc)[ \t]+{_NAME}"),)),
)
_ROWS = {language: rows for languages, rows in _TABLE for language in languages.split()}


class Symbol(msgspec.Struct, frozen=True):
    """A definition: `line` counts from the text's first; `signature` is its head in one line."""

    name: str
    kind: str
    line: int
    signature: str


def symbols_of(text: str, language: str) -> list[Symbol]:
    """List what a text defines, in its order; nothing for a language the table lacks."""
    return list(_symbols(text, language))


def _symbols(text: str, language: str) -> Iterator[Symbol]:
    rows = _ROWS.get(language)
    if rows is None:
        return
    line = last = 0
    for match in _pattern(language).finditer(text):
        index = match.lastindex or 0
        line += text.count("\n", last, match.start())
        last = match.start()
        yield Symbol(match.group(index), rows[index - 1][0], line, _head(text, match))


@cache
def _pattern(language: str) -> re.Pattern[str]:
    alternatives = "|".join(pattern for _, pattern in _ROWS[language])
    return re.compile(rf"^(?:{alternatives})", re.MULTILINE)


def _head(text: str, match: re.Match[str]) -> str:
    """The definition from its first line to the one that closes its parameters."""
    pieces: list[str] = []
    start = at = match.start()
    depth = 0
    for line in text[start : start + 4 * _MOST_HEAD_CHARS].split("\n")[:_MOST_HEAD_LINES]:
        pieces.append(line.strip())
        depth += line.count("(") - line.count(")")
        at += len(line) + 1
        if depth <= 0 and at > match.end(match.lastindex or 0):
            break
    return " ".join(pieces)[:_MOST_HEAD_CHARS]
