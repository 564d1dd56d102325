"""Where the cursor is: the facts that forms, stopping and trimming all start from."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from lsp_server.prompt.languages import Language, language_of
from lsp_server.prompt.lexing import OPENER_OF, Lexer, missing_closers
from lsp_server.prompt.repository import RepositoryBlock

# How far from the cursor brackets are counted. Before it that is generous, since strings are told
# from code only where reading began in code.
_SCAN_CHARS_BEFORE = 65_536
_SCAN_CHARS_AFTER = 16_384
# Columns of a tab when the file itself gives no unit.
_TAB_COLUMNS = 4


@dataclass(frozen=True)
class CompletionInput:
    """A document cut at the cursor. `multiline` False asks for the rest of the line only;
    `repository` is what the model is shown besides."""

    prefix: str
    suffix: str
    language_id: str = ""
    path: str = ""
    multiline: bool = True
    repository: RepositoryBlock | None = None

    @cached_property
    def situation(self) -> "Situation":
        """What surrounds the cursor; read once, on first use, and then shared. Never changed."""
        return Situation(self)


def to_line_feeds(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def eol_of(before: str, after: str) -> str:
    """Name the line end a document uses between these two parts of it; "\\n" when it has none."""
    nearby = before[-4096:] + after[:4096]
    if "\r\n" in nearby:
        return "\r\n"
    return "\r" if "\r" in nearby and "\n" not in nearby else "\n"


class Situation:
    """What surrounds the cursor, read once per request. All its text has "\\n" line ends.

    `lexer` has read all before the cursor. `missing` counts closing brackets the completion itself
    may have to write, because the text after the cursor does not have them;
    `is_string_closed_after` says that the string the cursor is in ends after it.
    """

    def __init__(self, inp: CompletionInput) -> None:
        self.language: Language = language_of(inp.language_id, inp.path)
        self.is_multiline = inp.multiline
        before = to_line_feeds(inp.prefix[-_SCAN_CHARS_BEFORE:])
        after = to_line_feeds(inp.suffix[:_SCAN_CHARS_AFTER])
        self.before, self.after = before, after
        self.line_before = before.rpartition("\n")[2]
        self.line_after, _, self._below = after.partition("\n")

        self.lexer = Lexer(self.language)
        self.lexer.read(before)
        rest = Lexer(self.language)
        rest.copy_state_of(self.lexer)
        rest.read(self.line_after)
        self.is_string_closed_after = rest.has_left_string
        rest.read(after[len(self.line_after) :])
        if self.lexer.string in self.language.long_quotes:  # others end with their line
            self.is_string_closed_after = rest.has_left_string
        self.missing: Counter[str] = missing_closers(
            self.lexer.open_brackets,
            rest.unmatched_closers,
            is_whole=len(inp.suffix) <= _SCAN_CHARS_AFTER,
        )

    @cached_property
    def next_line(self) -> str:
        """The first line below the cursor's that is not blank; "" if there is none."""
        return next((line for line in self._below.split("\n") if line.strip()), "")

    @cached_property
    def lines_above(self) -> list[str]:
        """The last lines above the cursor's that are not blank, nearest last."""
        above = self.before[: len(self.before) - len(self.line_before)]
        return [line for line in above[-4096:].split("\n") if line.strip()][-16:]

    @cached_property
    def indent_unit(self) -> str:
        """One level of the document's indentation: a tab or some spaces."""
        widths: Counter[int] = Counter()
        n_tabs = 0
        for line in (self.before[-8192:] + self.after[:4096]).split("\n"):
            if line.startswith("\t"):
                n_tabs += 1
            elif line.startswith("  ") and line.strip():
                widths[len(line) - len(line.lstrip(" "))] += 1
        if n_tabs > sum(widths.values()):
            return "\t"
        if not widths:
            return " " * _TAB_COLUMNS
        # Most indents are multiples of the unit; alignment makes a few that are not.
        total = sum(widths.values())
        for unit in (8, 4, 3):
            if sum(n for width, n in widths.items() if width % unit == 0) >= 0.9 * total:
                return " " * unit
        return "  "

    def indent_of(self, line: str) -> int:
        """Measure a line's leading blanks in columns, a tab counting as one level."""
        tab = _TAB_COLUMNS if self.indent_unit == "\t" else len(self.indent_unit)
        blanks = line[: len(line) - len(line.lstrip(" \t"))]
        return sum(tab if blank == "\t" else 1 for blank in blanks)

    @cached_property
    def is_blank_line(self) -> bool:
        return not self.line_before.strip()

    @cached_property
    def n_opened_on_line(self) -> int:
        """Count the brackets the cursor's line opens and does not close before the cursor."""
        lexer = Lexer(self.language)
        lexer.read(self.line_before)
        return len(lexer.open_brackets)

    @cached_property
    def closes_after(self) -> bool:
        """Tell whether a closing bracket comes right after the cursor, on its line."""
        return self.line_after.lstrip()[:1] in OPENER_OF

    @cached_property
    def spans_brackets(self) -> bool:
        """Tell whether the cursor sits between two brackets that may get a block between them."""
        return self.closes_after and self.opens_block(self.line_before)

    @cached_property
    def is_indented(self) -> bool:
        """Tell whether the blanks before the cursor are all that the line or word needs."""
        if not self.is_blank_line:
            return self.line_before.endswith((" ", "\t")) and self.lexer.string is None
        if not self.line_before or not self.lines_above:
            return False
        above = self.lines_above[-1]
        is_deeper = self.indent_of(self.line_before) > self.indent_of(above)
        return is_deeper or not self.opens_block(above)

    def code_of(self, line: str) -> str:
        """Take the comment and blanks off a line's end."""
        openings = [*self.language.line_comments, *(o for o, _ in self.language.block_comments)]
        lexer = Lexer(self.language)
        for at, char in enumerate(line, start=1):
            lexer.step(char)
            if lexer.comment is not None:
                opening = max((o for o in openings if line[:at].endswith(o)), key=len, default="")
                return line[: at - len(opening)].rstrip()
        return line.rstrip()

    def is_comment(self, line: str) -> bool:
        return bool(line.strip()) and not self.code_of(line)

    def opens_block(self, line: str) -> bool:
        """Tell whether a block must follow this line."""
        return self.language.opener.search(self.code_of(line)) is not None
