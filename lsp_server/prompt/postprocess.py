"""From what the model wrote to what is shown at the cursor; "" where nothing should be.

Every rule only takes text away, and they are applied until none takes more, so that text once
shown is shown unchanged if it is judged again.
"""

import re

from lsp_server.prompt.lexing import Lexer
from lsp_server.prompt.situation import CompletionInput, Situation, eol_of, to_line_feeds
from lsp_server.prompt.stopping import StopRule

_CHATTER = re.compile(
    r"\A\s*(?:(?:sure|certainly|of course|okay)[,!.]|(?:here(?:'s| is| are)|i'm sorry|as an ai)\b"
    r"|(?:the|this) (?:missing )?(?:code|function|completion|snippet)\b|to (?:complete|solve)\b)",
    re.IGNORECASE,
)
_SPECIAL_TOKEN = re.compile(r"<\|[a-z_]+\|>")
_HALF_WORD = re.compile(r"\w+\Z")
_DANGLING = re.compile(r"[\s.,=+\-*/%&|^<>!?:@#$\\]+\Z")
_REPLACEMENT = "\ufffd"


def postprocess(inp: CompletionInput, raw: str, is_complete: bool) -> str:
    """Trim a raw completion to the text to insert at the cursor.

    `is_complete` False says that generation was cut off: its half last line is not shown.
    """
    at = inp.situation
    text = _without_chat(at, to_line_feeds(raw))
    text = _with_indentation_of(at, text)
    text = _without_echo(at, text)
    while True:
        trimmed = _trim(inp, at, text, is_complete)
        if not trimmed or (trimmed == text and is_complete):
            break
        text, is_complete = trimmed, True
    return trimmed.replace("\n", eol_of(inp.prefix, inp.suffix))


def _trim(inp: CompletionInput, at: Situation, text: str, is_complete: bool) -> str:
    rule = StopRule(inp)
    is_whole = rule.feed(text) or is_complete
    if is_whole:
        rule.finish()
        text = rule.kept
    else:
        text = _without_half_line(at, text)
    if rule.is_cut_short or not is_whole:
        text = _without_open_end(at, text)
    text = _without_text_after(at, text)
    text = _without_announcements(at, text)
    text = _without_trailing_blanks(at, text)
    return "" if not text.strip() or _is_text_below(at, text) else text


def _without_chat(at: Situation, text: str) -> str:
    """Drop what is no text of a file: special tokens, broken characters, prose instead of code."""
    text = text.partition(_REPLACEMENT)[0]
    if (special := _SPECIAL_TOKEN.search(text)) is not None:
        text = text[: special.start()]
    is_code_expected = at.is_blank_line and at.language.has_brackets and not at.lexer.is_in_text
    return "" if is_code_expected and _CHATTER.match(text) is not None else text


def _with_indentation_of(at: Situation, text: str) -> str:
    """Indent with what the document indents with, and not twice on the cursor's own line."""
    first, *rest = text.split("\n")
    if at.is_blank_line and not first.strip():
        # The cursor already stands where the line begins.
        while rest and not rest[0].strip():
            rest.pop(0)
        if rest and rest[0].startswith(at.line_before):
            first, rest = rest[0][len(at.line_before) :], rest[1:]
    if at.is_indented:
        first = first.lstrip(" \t")
    return "\n".join([first, *(_reindent(line, at.indent_unit) for line in rest)])


def _reindent(line: str, unit: str) -> str:
    content = line.lstrip(" \t")
    blanks = line[: len(line) - len(content)]
    if unit == "\t" and " " in blanks:
        n_columns = len(blanks.expandtabs(4))
        return "\t" * (n_columns // 4) + " " * (n_columns % 4) + content
    if unit != "\t" and "\t" in blanks:
        return blanks.replace("\t", unit) + content
    return line


def _without_echo(at: Situation, text: str) -> str:
    """Drop the start of the cursor's line where the model wrote it again."""
    typed = at.line_before.strip()
    is_word = sum(char.isalnum() for char in typed) >= 3 and at.line_before[-1:] == " "
    while is_word and text.startswith(typed):
        text = text[len(typed) :].lstrip(" \t")
    return text


def _without_half_line(at: Situation, text: str) -> str:
    """Drop the line that was being written; the only one is cut back to whole words instead."""
    whole, newline, _ = text.rpartition("\n")
    if newline and whole.strip():
        return whole
    text = _DANGLING.sub("", _HALF_WORD.sub("", text))
    string = _lexer_after(at, text).string
    if string is not None and text.endswith(string):
        text = _DANGLING.sub("", text.removesuffix(string))  # a string of which nothing is left
    return text


def _without_open_end(at: Situation, text: str) -> str:
    """Drop lines at the end that leave a block or bracket open, unless all lines do."""
    lines = text.split("\n")
    n_whole = len(lines)
    while n_whole > 1 and not _is_whole(at, lines[:n_whole]):
        n_whole -= 1
    if not _is_whole(at, lines[:n_whole]):
        n_whole = len(lines)
        while n_whole > 1 and at.opens_block(lines[n_whole - 1]):
            n_whole -= 1
    return "\n".join(lines[:n_whole])


def _is_whole(at: Situation, lines: list[str]) -> bool:
    is_open = bool(_lexer_after(at, "\n".join(lines)).open_brackets)
    return not is_open and bool(lines[-1].strip()) and not at.opens_block(lines[-1])


def _without_text_after(at: Situation, text: str) -> str:
    """Drop the end of the text where the rest of the cursor's line already says it."""
    rest = at.code_of(at.line_after).strip()
    trimmed = text.rstrip()
    for said in dict.fromkeys(
        (at.line_after.strip(), *(rest[:n] for n in range(len(rest), 0, -1)))
    ):
        if said and trimmed.endswith(said) and not _exposes_opener(at, trimmed, len(said)):
            return trimmed[: -len(said)]
    return text


def _exposes_opener(at: Situation, text: str, n_chars: int) -> bool:
    """Tell whether the last characters close brackets that the text itself opens."""
    lexer = _lexer_after(at, text[:-n_chars])
    n_open = len(lexer.open_brackets)
    lexer.read(text[-n_chars:])
    return len(lexer.open_brackets) < n_open


def _lexer_after(at: Situation, text: str) -> Lexer:
    """Read a completion from the state at the cursor."""
    lexer = Lexer(at.language)
    lexer.copy_state_of(at.lexer)
    lexer.read(text)
    return lexer


def _without_announcements(at: Situation, text: str) -> str:
    """Drop comments at the end: they announce code that was not kept, or none at all."""
    if _is_bracket_break(at, text) or at.lexer.is_in_text:
        return text
    lines = text.split("\n")
    while len(lines) > 1 and (not lines[-1].strip() or at.is_comment(lines[-1])):
        lines.pop()
    is_comment_alone = at.is_blank_line and len(lines) == 1 and at.is_comment(lines[0])
    return "" if is_comment_alone else "\n".join(lines)


def _without_trailing_blanks(at: Situation, text: str) -> str:
    if _is_bracket_break(at, text):
        return text
    return text.rstrip()


def _is_bracket_break(at: Situation, text: str) -> bool:
    """Tell whether the blanks at the end put the closing bracket after the cursor on its line."""
    blanks = text[len(text.rstrip()) :]
    return "\n" in blanks and at.closes_after


def _is_text_below(at: Situation, text: str) -> bool:
    """Tell whether the text, put at the cursor, only repeats the line below."""
    line = (at.line_before + text).strip()
    return bool(at.next_line) and line == at.next_line.strip()
