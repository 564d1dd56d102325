"""Whether a replacement leaves code as sound as it was: Python by its parser, others by brackets.

Half written code has no verdict: only what was sound before can be damaged.
"""

import ast
import textwrap
import warnings
from collections.abc import Sequence

from lsp_server.prompt.edit_prompt import EditInput
from lsp_server.prompt.languages import Language, language_of
from lsp_server.prompt.lexing import Lexer
from lsp_server.prompt.situation import to_line_feeds

_SCAN_CHARS = 65_536
_PYTHON_SUFFIXES = (".py", ".pyi", ".pyw")


def damage(inp: EditInput, replacement: str) -> str | None:
    """What is wrong with the code after the replacement that was right before it; None if all is
    well or nothing can be said."""
    if is_python(inp):
        before, after = to_line_feeds(inp.before), to_line_feeds(inp.after)
        if _parse_error(before + inp.old + after) is None:
            return _parse_error(before + replacement + after)
        if _parse_error(textwrap.dedent(inp.old)) is None:
            return _parse_error(textwrap.dedent(replacement))
    return _imbalance(inp, replacement)


def change_of_code(inp: EditInput, replacement: str) -> str | None:
    """What of the code itself, beside comments and docstrings, the replacement changes."""
    if is_python(inp):
        before, after = to_line_feeds(inp.before), to_line_feeds(inp.after)
        old = _without_docstrings(before + inp.old + after)
        if old is not None:
            is_same = old == _without_docstrings(before + replacement + after)
            return None if is_same else "the code would do something else"
    language = language_of(inp.language_id, inp.path)
    old_code = _without_comments(language, inp.old)
    return None if old_code == _without_comments(language, replacement) else "the code differs"


def is_python(inp: EditInput) -> bool:
    return inp.language_id == "python" or (
        not inp.language_id and inp.path.lower().endswith(_PYTHON_SUFFIXES)
    )


def _parse_error(code: str) -> str | None:
    try:
        _parse(code)
    except SyntaxError as error:
        return f"{error.msg} in line {error.lineno}"
    except (ValueError, RecursionError, MemoryError) as error:
        return str(error) or "it is nested too deeply"
    return None


def _parse(code: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd escapes are the author's business
        return ast.parse(code)


def _without_docstrings(code: str) -> str | None:
    """The program without its documentation, None where it is no program."""
    if _parse_error(code) is not None:
        return None
    tree = _parse(code)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


def _imbalance(inp: EditInput, replacement: str) -> str | None:
    """How brackets, strings or comments end otherwise than they did."""
    language = language_of(inp.language_id, inp.path)
    if language.is_prose:
        return None
    before = to_line_feeds(inp.before[-_SCAN_CHARS:])
    old, new = Lexer(language), Lexer(language)
    for lexer, text in ((old, inp.old), (new, replacement)):
        lexer.read(before)
        lexer.read(text)
    if old.open_brackets != new.open_brackets:
        return f"brackets {_named(new.open_brackets)} stay open, were {_named(old.open_brackets)}"
    if old.unmatched_closers != new.unmatched_closers:
        return f"brackets {_named(new.unmatched_closers)} close nothing"
    if (old.string, old.comment) != (new.string, new.comment):
        return "a string or comment does not end"
    return None


def _named(brackets: Sequence[str]) -> str:
    return f"'{''.join(brackets)}'" if brackets else "none"


def _without_comments(language: Language, text: str) -> list[str]:
    """The words of the code, without comments."""
    lexer = Lexer(language)
    openers = (*(opening for opening, _ in language.block_comments), *language.line_comments)
    kept = ""
    for char in text:
        was_comment = lexer.comment is not None
        lexer.step(char)
        if was_comment:
            continue
        kept += char
        if lexer.comment is not None:
            opener = max((o for o in openers if kept.endswith(o)), key=len, default="")
            kept = kept[: len(kept) - len(opener)] + " "
    return kept.split()
