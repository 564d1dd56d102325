"""Brackets, strings and comments of half-written text, one character at a time.

Knows just enough to tell a bracket that counts from one inside a string or a comment. It never
fails: what it cannot tell (a regular expression literal, a nested template) it reads as code.
"""

import re
from collections import Counter
from enum import Enum, auto

from lsp_server.prompt.languages import GLUE, Language

CLOSER_OF = {"(": ")", "[": "]", "{": "}"}
OPENER_OF = {closer: opener for opener, closer in CLOSER_OF.items()}


class Event(Enum):
    """What one character did; most do nothing worth a name."""

    OPEN = auto()
    CLOSE = auto()
    UNMATCHED_CLOSE = auto()
    STRING_END = auto()


class Lexer:
    """The state of reading one text of a language.

    `open_brackets` are those not closed yet, outermost first; `unmatched_closers` those that
    closed nothing. `string` is the quote of the string being read, `comment` what ends the
    comment being read ("" for the end of the line); None outside of one. `has_left_string` says
    that the string it started in, if any, has ended.
    """

    def __init__(self, language: Language) -> None:
        self.open_brackets: list[str] = []
        self.unmatched_closers: list[str] = []
        self.string: str | None = None
        self.comment: str | None = None
        self.has_left_string = False
        self._has_inherited_string = False
        self._language = language
        self._recent = "\n"
        self._is_escaped = False
        # Where ' opens no string (Rust), a bracket right after it is a character literal.
        self._literal_quote = ("'",) if "'" not in language.quotes else ()

    @property
    def is_in_text(self) -> bool:
        """Tell whether a string or comment is being read."""
        return self.string is not None or self.comment is not None

    def copy_state_of(self, other: "Lexer") -> None:
        """Start inside the string or comment that `other` is inside of, with no brackets."""
        self.string, self.comment = other.string, other.comment
        self._has_inherited_string = self.string is not None

    def read(self, text: str) -> None:
        """Take a whole text; equal to taking its characters one by one, but faster."""
        at = 0
        while at < len(text):
            next_at = self._skip_dull(text, at)
            if next_at > at:
                self._recent = text[max(0, next_at - 4) : next_at]
                at = next_at
            else:
                self.step(text[at])
                at += 1

    def _skip_dull(self, text: str, at: int) -> int:
        """Find the next character at or after `at` that may change the state."""
        if self._is_escaped:
            return at
        if self.comment is not None:
            end = self.comment or "\n"
            found = text.find(end, max(0, at - len(end) + 1))
            return len(text) if found < 0 else max(found, at)
        if self.string is not None:
            run = re.compile(rf"[^\\\n{re.escape(self.string[0])}]+").match(text, at)
        elif self._recent[-1:] in self._language.markers:
            return at  # the next character may complete "//" or a long quote
        else:
            run = self._language.dull_run.match(text, at)
        return at if run is None else run.end()

    def step(self, char: str) -> Event | None:
        """Take one character and say what it did."""
        recent, self._recent = self._recent, (self._recent + char)[-4:]
        if self.comment is not None:
            self._step_comment(char)
            return None
        if self.string is not None:
            return self._step_string(char, self.string)
        return self._step_code(char, recent)

    def _step_comment(self, char: str) -> None:
        if self.comment == "":
            if char == "\n":
                self.comment = None
        elif self.comment is not None and self._recent.endswith(self.comment):
            self.comment = None
            self._recent = ""

    def _step_string(self, char: str, quote: str) -> Event | None:
        if self._is_escaped:
            self._is_escaped = False
            self._recent = ""
            return None
        if char == "\\":
            self._is_escaped = True
            return None
        if char == "\n" and quote in self._language.quotes:
            self.string = None  # unterminated: such strings end with their line
            return None
        if self._recent.endswith(quote):
            self.string = None
            self.has_left_string = self.has_left_string or self._has_inherited_string
            return Event.STRING_END
        return None

    def _step_code(self, char: str, recent: str) -> Event | None:
        self._begin_comment(recent)
        if self.comment is not None:
            return None
        if self._begin_string(char):
            return None
        if not self._language.has_brackets or recent.endswith(self._literal_quote):
            return None
        if char in CLOSER_OF:
            self.open_brackets.append(char)
            return Event.OPEN
        if char in OPENER_OF:
            return self._close(char)
        return None

    def _begin_comment(self, recent: str) -> None:
        for opening, closing in self._language.block_comments:
            if self._recent.endswith(opening):
                self.comment, self._recent = closing, ""
                return
        for opening in self._language.line_comments:
            if self._recent.endswith(opening):
                # `$#`, `${#name}` and `colour#1` are no comments
                is_glued = opening == "#" and (recent[-1:].isalnum() or recent[-1:] in GLUE)
                if not is_glued or not recent:
                    self.comment = ""
                return

    def _begin_string(self, char: str) -> bool:
        for quote in self._language.long_quotes:
            if self._recent.endswith(quote):
                self.string, self._recent = quote, ""
                return True
        if char in self._language.quotes:
            self.string = char
            return True
        return False

    def _close(self, char: str) -> Event:
        opener = OPENER_OF[char]
        if opener not in self.open_brackets:
            self.unmatched_closers.append(char)
            return Event.UNMATCHED_CLOSE
        while self.open_brackets.pop() != opener:
            pass
        return Event.CLOSE


def missing_closers(
    open_brackets: list[str], closers_after: list[str], is_whole: bool
) -> Counter[str]:
    """Count the closing brackets that the text before the cursor needs and the text after lacks.

    Both lists are in reading order. Unless `is_whole`, more text follows than was read, and
    brackets still open at its end count as closed there. Closers that match nothing are ignored:
    they belong to a line that is being rewritten.
    """
    missing: Counter[str] = Counter()
    open_inside_out = [CLOSER_OF[opener] for opener in reversed(open_brackets)]
    rest = list(closers_after)
    for n_seen, closer in enumerate(open_inside_out):
        while rest and rest[0] not in open_inside_out[n_seen:]:
            rest.pop(0)
        if rest and rest[0] == closer:
            rest.pop(0)
        elif rest or is_whole:
            missing[closer] += 1
    return missing
