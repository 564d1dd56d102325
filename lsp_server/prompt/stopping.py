"""Where a completion ends: at the end of the statement or block a person would accept.

A small model ends by itself about once in ten times; the rest of the time it goes on to the next
function, to an example, to a chat about the code. The rules here read its text as it arrives.
Mid-statement the statement is wanted, with the block it opens; on a blank line, the statements up
to the end of the block, a blank line, or the text that is already there.
"""

import re

from lsp_server.prompt.lexing import Event, Lexer
from lsp_server.prompt.repetition import loop_unit, repeated_lines
from lsp_server.prompt.situation import CompletionInput

_MAX_LINES = 12
_MAX_PROSE_LINES = 4
_MAX_CHARS = 2000
_MAX_LEADING_BLANK_LINES = 3
# A line that begins this far right of the cursor's is a run of blanks, not indentation.
_MAX_EXTRA_COLUMNS = 40
_HEAD = re.compile(r"\s*\W*\w+")  # enough of a line to know it by
_CONTINUES = re.compile(r"(\\|&&|\|\||(?<!\+)\+|(?<!-)-|[=|^%]|\b(?:and|or|not))$")
_DECORATOR = re.compile(r"\s*(@[\w.]+|#!?\[.*\]$)")


class StopRule:
    """Reads a completion piece by piece; `kept` is what of it belongs at the cursor.

    The decision depends on the text alone, never on how it was cut into pieces.
    """

    def __init__(self, inp: CompletionInput) -> None:
        self._at = inp.situation
        self._lexer = Lexer(self._at.language)
        self._lexer.copy_state_of(self._at.lexer)
        self._is_in_cursor_string = self._lexer.string is not None
        self._missing = self._at.missing.copy()

        self._text = ""
        self._end: int | None = None
        self._content_end = 0  # where the last line that is not blank ended
        self._line = self._at.line_before
        self._line_offset = 0
        self._is_line_begun = not self._at.is_blank_line
        self._n_blank_lines = 0
        self._written: list[str] = []
        self._offsets: list[int] = []

        # One statement is wanted after text, a run of statements on a blank line.
        self._wants_statement = not self._at.is_blank_line
        self._base = self._at.indent_of(self._line) if self._wants_statement else None
        self._is_in_block = False
        self._has_left_scope = False
        self._has_had_block = False
        self._last_indent = 0
        self._n_pending = min(self._at.n_opened_on_line, self._missing.total())
        self._line_depth = self._depth
        self.is_cut_short = False

    @property
    def is_done(self) -> bool:
        return self._end is not None

    @property
    def kept(self) -> str:
        """The text up to the end that was found, or all of it so far."""
        return self._text[: self._end]

    def feed(self, piece: str) -> bool:
        """Read the next piece; True once the completion should end."""
        if self._end is not None:
            return True
        offset = len(self._text)
        self._text += piece
        for char in piece:
            self._read_char(char, offset)
            if self._end is not None:
                return True
            offset += 1
        return False

    def finish(self) -> None:
        """Judge the last line as it stands; no more text will come."""
        if self._end is None:
            self._end_line(len(self._text))

    def _read_char(self, char: str, offset: int) -> None:
        if char == "\r":
            return
        if char == "\n":
            self._end_line(offset)
            if self._end is None:
                self._lexer.step(char)
                self._line, self._line_offset, self._is_line_begun = "", offset + 1, False
                self._line_depth = self._depth
            return
        event = self._lexer.step(char)
        if not self._may_write(event, char):
            is_alone = not self._line.strip() and not self._at.spans_brackets
            self._end = self._content_end if is_alone else offset
            return
        if not self._is_line_begun and _HEAD.fullmatch(self._line) and not _is_word(char):
            self._begin_line()
        self._line += char
        self._guard(offset + 1)

    def _may_write(self, event: Event | None, char: str) -> bool:
        """Refuse a closing bracket or quote that the text after the cursor already has."""
        if event is Event.UNMATCHED_CLOSE:
            if self._missing[char] == 0:
                return False
            self._missing[char] -= 1
            self._n_pending = max(0, self._n_pending - 1)
            self._has_left_scope = self._has_left_scope or not self._line.strip()
        elif event is Event.STRING_END and self._is_in_cursor_string:
            self._is_in_cursor_string = False
            return not self._at.is_string_closed_after
        return True

    def _guard(self, offset: int) -> None:
        """End runs of blanks, loops within a line, and texts far too long."""
        if not self._line.strip():
            limit = len(self._at.line_before) + self._last_indent + _MAX_EXTRA_COLUMNS
            if len(self._line) > limit:
                self._end = self._content_end
        elif (n_unit := loop_unit(self._line)) > 0:
            once = self._line[: len(self._line) - 2 * n_unit]
            at_separator = max(once.rfind(","), once.rfind(";"))
            kept = once[: at_separator if at_separator >= 0 else once.rfind(" ") + 1]
            self._end = max(self._line_offset, offset - len(self._line) + len(kept))
        elif offset >= _MAX_CHARS:
            self._end, self.is_cut_short = self._content_end, True

    @property
    def _depth(self) -> int:
        return len(self._lexer.open_brackets) + self._n_pending

    @property
    def _is_in_long_string(self) -> bool:
        """Tell whether a string the completion opened itself goes on below its line."""
        is_long = self._lexer.string in self._at.language.long_quotes
        return is_long and not self._is_in_cursor_string

    def _begin_line(self) -> None:
        """Judge a line by its indentation and first word."""
        self._is_line_begun = True
        indent = self._at.indent_of(self._line)
        if self._base is None:
            cursor_indent = self._at.indent_of(self._at.line_before)
            is_first = self._line_offset == 0
            self._base = cursor_indent if is_first and self._at.is_indented else indent
            if indent < cursor_indent and not self._has_left_scope:
                self._end = self._content_end
        elif not self._may_begin(indent, self._base):
            self._end = self._content_end

    def _may_begin(self, indent: int, base: int) -> bool:
        if self._is_in_long_string or self._has_left_scope:
            return True
        is_closer = self._at.language.closer.match(self._line.strip()) is not None
        if indent > base:
            return True
        if indent < base:
            return False
        if self._wants_statement:
            return is_closer or self._line_depth > 0
        if self._n_blank_lines > 0 and self._line_depth == 0:
            return False
        # At the top level one definition is enough.
        return base > 0 or not self._has_had_block or is_closer or self._line_depth > 0

    def _end_line(self, offset: int) -> None:
        if not self._line.strip():
            self._end_blank_line(offset)
            return
        if self._line_offset == 0 and not self._text[:offset].strip():
            self._go_below(offset)
            return
        if not self._is_line_begun:
            self._begin_line()
        if self._end is None and self._repeats_text():
            self._end = self._content_end
        if self._end is not None:
            return
        if (n_repeated := self._count_repeated()) > 0:
            self._end = self._offsets[-n_repeated]
            return
        self._n_blank_lines = 0
        self._content_end = offset
        is_complete = self._is_complete(self._line)
        self._last_indent = self._at.indent_of(self._line)
        self._has_had_block = self._has_had_block or self._at.opens_block(self._line)
        limit = _MAX_PROSE_LINES if self._at.language.is_prose else _MAX_LINES
        if is_complete or self._is_single_line():
            self._end = offset
        elif len(self._written) >= limit:
            self._end, self.is_cut_short = offset, True

    def _is_single_line(self) -> bool:
        has_text_after = bool(self._at.line_after.strip()) and not self._at.spans_brackets
        return has_text_after or not self._at.is_multiline

    def _repeats_text(self) -> bool:
        """Tell whether this line is the one below the cursor, or the fence of a chat answer."""
        line = self._line.strip()
        if line.startswith("```") and not self._at.language.is_prose:
            return True
        has_words = any(char.isalnum() for char in line)
        return has_words and self._line.rstrip() == self._at.next_line.rstrip()

    def _count_repeated(self) -> int:
        self._written.append(self._line.strip())
        self._offsets.append(max(0, self._line_offset - 1))
        if self._is_in_long_string:
            return 0
        above = [line.strip() for line in self._at.lines_above]
        return repeated_lines(above, self._written)

    def _end_blank_line(self, offset: int) -> None:
        self._n_blank_lines += 1
        if not self._written:
            if self._n_blank_lines > _MAX_LEADING_BLANK_LINES or self._is_single_line():
                self._end = 0
            return
        is_inside = self._depth > 0 or self._is_in_long_string
        is_deeper = self._base is not None and self._last_indent > self._base
        if self._n_blank_lines > 1 or not (is_inside or is_deeper):
            self._end = self._content_end

    def _go_below(self, offset: int) -> None:
        """Go on below a line the user wrote in full, if that line asks for more."""
        line = self._at.line_before
        if self._is_single_line():
            self._end = 0
        elif self._at.is_comment(line) or _DECORATOR.fullmatch(line):
            self._wants_statement = False
            self._last_indent = self._at.indent_of(line)
        elif self._at.opens_block(line) or self._n_pending > 0 or self._continues(line):
            self._is_in_block = True
        else:
            self._end = 0

    def _continues(self, line: str) -> bool:
        is_code = not self._at.language.is_prose
        return is_code and _CONTINUES.search(self._at.code_of(line)) is not None

    def _is_complete(self, line: str) -> bool:
        """Tell whether the statement or block is complete with this line."""
        if self._is_in_cursor_string:
            return self._wants_statement
        if self._has_left_scope and self._n_pending == 0 and not self._lexer.open_brackets:
            return True
        if self._depth > 0 or self._is_in_long_string:
            return False
        opens = self._at.opens_block(line)
        is_at_base = self._at.indent_of(line) == self._base
        if not self._wants_statement:
            is_jump = self._at.language.jump.match(line.strip()) is not None
            return is_at_base and is_jump and not opens
        if opens or self._continues(line):
            self._is_in_block = True
            return False
        return not self._is_in_block or (is_at_base and len(self._written) > 1)


def _is_word(char: str) -> bool:
    return char.isalnum() or char == "_"
