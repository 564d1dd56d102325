"""Edits that are about to be repeated, found without a model: a rename, or the same change again.

Precision comes before recall. A name is changed where it is used once it was changed where it is
defined; any other change is made a third time once it was made twice in the same surroundings.
"""

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

import msgspec

from lsp_server.edit_history import RecentEdit
from lsp_server.prompt.enclosing import enclosing_definition, is_definition
from lsp_server.prompt.languages import Language
from lsp_server.prompt.lexing import Lexer

_TOKEN = re.compile(r"\w+|[^\w\s]")
_NAME = re.compile(r"[^\W\d]\w+")
_CONTEXT_TOKENS = 3
# Surroundings that two changes must share for a third to be made: of a change that puts one thing
# in place of another, and of one that only adds or takes away, which fits in more places.
_LEAST_SHARED, _LEAST_SHARED_IF_ONE_SIDED = 1, 5
_SURE_REPEATS = 3  # so many times the same, and the surroundings do not matter
_LEAST_NAME_CHARS = 3
_LEAST_KEPT_SHARE = 0.5  # of a line's tokens; one of which less is kept was written anew
_MOST_LINE_TOKENS = 200
_HEAD_LINES = 20  # how far above a parameter its function's head is looked for
_TYPES = frozenset(("class", "struct", "enum", "trait", "interface", "type"))
_OWN_NAME = _TYPES | {"def", "func", "fun", "fn", "function"}
_BINDING = frozenset(["let", "const", "var", "val", "for", "as", "mut", "auto"])

Tokens = tuple[str, ...]


class Change(msgspec.Struct, frozen=True):
    """In line `line` the tokens `old` became `new` between `left` and `right`. `text` is what is
    between the two now, with its blanks."""

    line: int
    left: Tokens
    old: Tokens
    new: Tokens
    right: Tokens
    text: str


class LineChange(msgspec.Struct, frozen=True):
    """Line `line` should become `new`, which has no line end; `why` is fit to be shown."""

    line: int
    new: str
    why: str


def next_repeat(
    lines: Sequence[str], edits: Sequence[RecentEdit], language: Language
) -> LineChange | None:
    """The next line that needs the change made last. `lines` are the document's, without ends;
    edits are oldest first."""
    if not edits or not (last := changes_of(edits[-1])):
        return None
    if any(mark in change.text for change in last for mark in language.line_comments):
        return None
    rename = _rename(last)
    if rename is not None:
        scope = _scope_of_rename(lines, edits[-1], last, rename)
        if scope is not None:
            return _next_use(lines, edits, scope, rename, language)
    return _next_alike(lines, edits, last, language)


def changes_of(edit: RecentEdit) -> list[Change]:
    """What changed within the lines of an edit; [] for one that adds or removes lines."""
    if len(edit.old) != len(edit.new):
        return []
    pairs = enumerate(zip(edit.old, edit.new, strict=True), edit.start)
    return [change for n, (old, new) in pairs if old != new for change in _in_line(n, old, new)]


def _in_line(line: int, old: str, new: str) -> Iterator[Change]:
    old_tokens, marks = _TOKEN.findall(old), list(_TOKEN.finditer(new))
    new_tokens = [mark.group() for mark in marks]
    if len(old_tokens) + len(new_tokens) > _MOST_LINE_TOKENS:
        return
    indent = len(new) - len(new.lstrip())
    matcher = SequenceMatcher(None, old_tokens, new_tokens, autojunk=False)
    n_kept = sum(block.size for block in matcher.get_matching_blocks())
    if n_kept < _LEAST_KEPT_SHARE * max(len(old_tokens), len(new_tokens)):
        return
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag == "equal":
            continue
        start = marks[c - 1].end() if c > 0 else indent
        end = marks[d].start() if d < len(marks) else len(new.rstrip())
        yield Change(
            line=line,
            left=tuple(old_tokens[max(0, a - _CONTEXT_TOKENS) : a]),
            old=tuple(old_tokens[a:b]),
            new=tuple(new_tokens[c:d]),
            right=tuple(old_tokens[b : b + _CONTEXT_TOKENS]),
            text=new[start:end],
        )


# --- renames -------------------------------------------------------------------------------------


def _rename(changes: Sequence[Change]) -> tuple[str, str] | None:
    """The one name that every change replaces by the one other name."""
    pairs = {(change.old, change.new) for change in changes}
    if len(pairs) != 1:
        return None
    [(old, new)] = pairs
    if len(old) != 1 or len(new) != 1:
        return None
    is_name = _NAME.fullmatch(old[0]) and _NAME.fullmatch(new[0])
    return (old[0], new[0]) if is_name else None


def _scope_of_rename(
    lines: Sequence[str], edit: RecentEdit, changes: Sequence[Change], rename: tuple[str, str]
) -> range | None:
    """The lines in which the old name means what was renamed; None if that is not sure."""
    found = next(((c, s) for c in changes if (s := _scope_of(lines, c)) is not None), None)
    if found is None:
        return None
    definition, scope = found
    others = [n for n in scope if not edit.start <= n < edit.end]
    if any(_word(rename[1]).search(lines[n]) for n in others):
        return None  # the new name is something else's already
    is_own_name = definition.left[-1:] and definition.left[-1] in _OWN_NAME
    above = (n for n in others if n < edit.start)
    if not is_own_name and any(_word(rename[0]).search(lines[n]) for n in above):
        return None  # used before: not its definition that was changed
    return scope


def _scope_of(lines: Sequence[str], change: Change) -> range | None:
    """The lines in which a name is known that the change defines; None if it defines none."""
    before = change.left[-1] if change.left else ""
    everywhere = range(len(lines))
    if before in _OWN_NAME:
        is_method = before not in _TYPES and lines[change.line][:1] in (" ", "\t")
        return None if is_method else everywhere  # what has a method of that name is not known
    head = _head_of_parameters(lines, change)
    if head is not None:
        if before not in ("(", ",", "*", "&"):
            return None
        found = enclosing_definition(lines, head)
        return range(*found) if found is not None else None
    if _is_in_brackets(lines[change.line], change) or not _is_bound(change, before):
        return None
    if lines[change.line][:1] not in (" ", "\t"):
        return everywhere
    found = enclosing_definition(lines, change.line)
    return everywhere if found is None else range(*found)


def _is_bound(change: Change, before: str) -> bool:
    """Whether a name is given a value here."""
    right = change.right
    is_assigned = right[:1] == ("=",) and right[:2] != ("=", "=")
    is_declared = right[:2] == (":", "=") or (right[:1] == (":",) and right[2:3] == ("=",))
    return before in _BINDING or (before not in (".", '"', "'") and (is_assigned or is_declared))


def _is_in_brackets(line: str, change: Change) -> bool:
    head = line[: line.find(change.new[0])]
    return head.count("(") > head.count(")") or head.count("[") > head.count("]")


def _head_of_parameters(lines: Sequence[str], change: Change) -> int | None:
    """The line of the definition whose parameter list the change is in."""
    line = lines[change.line]
    depth = 0
    text = line[: line.find(change.new[0])]
    for n in range(change.line, max(-1, change.line - _HEAD_LINES), -1):
        depth += text.count("(") - text.count(")")
        if depth > 0:
            return n if is_definition(lines[n]) else None
        if n > 0:
            text = lines[n - 1]
            if n - 1 != change.line and text.rstrip().endswith((":", ";", "{", "}")):
                return None
    return None


def _next_use(
    lines: Sequence[str],
    edits: Sequence[RecentEdit],
    scope: range,
    rename: tuple[str, str],
    language: Language,
) -> LineChange | None:
    """Where in its scope the old name is used next; after the last line come those above."""
    old, new = rename
    order = [*range(edits[-1].end, len(lines)), *range(edits[-1].start)]
    where = [n for n in order if n in scope]
    return _first_change(lines, where, [(_word(old), new)], language, f"rename {old} to {new}")


# --- the same change again -----------------------------------------------------------------------


def _next_alike(
    lines: Sequence[str],
    edits: Sequence[RecentEdit],
    last: Sequence[Change],
    language: Language,
) -> LineChange | None:
    """The next line below that the changes fit. None where lines were passed over that they fit,
    too: then they are not meant for every line."""
    same = _same_changes(edits, last)
    shared = [_in_common(a, b) for a, b in zip(same[-1], same[-2], strict=True)] if same[1:] else []
    if not shared or not all(_is_sure(change, len(same)) for change in shared):
        return None
    rules = _rules_of(shared)
    passed = range(min(changes[0].line for changes in same), edits[-1].start)
    touched = {n for edit in edits for n in range(edit.start, edit.end)}
    between = [n for n in passed if n not in touched]
    if _first_change(lines, between, rules, language, "") is not None:
        return None
    where = _scope_of_all(lines, [changes[0].line for changes in same])
    below = [n for n in where if n >= edits[-1].end]
    return _first_change(lines, below, rules, language, "the same change again")


def _scope_of_all(lines: Sequence[str], changed: Sequence[int]) -> range:
    """The definition that all changes are in: a name may mean something else outside of it."""
    found = enclosing_definition(lines, changed[-1])
    is_in_all = found is not None and all(n in range(*found) for n in changed)
    return range(*found) if found is not None and is_in_all else range(len(lines))


def _same_changes(edits: Sequence[RecentEdit], last: Sequence[Change]) -> list[list[Change]]:
    """The changes of every line that was changed like the latest one, which comes last."""
    by_line: dict[int, list[Change]] = {}
    for edit in edits:
        for change in changes_of(edit):
            by_line.setdefault(change.line, []).append(change)
    latest = by_line.pop(last[-1].line)
    wanted = [(change.old, change.new) for change in latest]
    return [*(c for c in by_line.values() if [(x.old, x.new) for x in c] == wanted), latest]


def _in_common(change: Change, other: Change) -> Change:
    left = _common_start(change.left[::-1], other.left[::-1])[::-1]
    right = _common_start(change.right, other.right)
    return msgspec.structs.replace(change, left=left, right=right)


def _common_start(a: Tokens, b: Tokens) -> Tokens:
    pairs = enumerate(zip(a, b, strict=False))
    n_same = next((n for n, (x, y) in pairs if x != y), min(len(a), len(b)))
    return a[:n_same]


def _is_sure(change: Change, n_times: int) -> bool:
    """Whether a change that was made so many times is known by itself and its surroundings."""
    n_shared = len(change.left) + len(change.right)
    if not change.old or not change.new:
        return n_shared >= _LEAST_SHARED_IF_ONE_SIDED and bool(_names(change.old + change.new))
    return bool(_names(change.old)) and (n_times >= _SURE_REPEATS or n_shared >= _LEAST_SHARED)


def _names(tokens: Tokens) -> list[str]:
    return [t for t in tokens if len(t) >= _LEAST_NAME_CHARS and _NAME.fullmatch(t)]


def _rules_of(changes: Sequence[Change]) -> list[tuple[re.Pattern[str], str]]:
    """What to replace by what in a line."""
    rules: list[tuple[re.Pattern[str], str]] = []
    for change in changes:
        # Blanks next to surroundings that are not looked at are none of its own.
        text = change.text if change.left else change.text.lstrip()
        rules.append((_pattern_of(change), text if change.right else text.rstrip()))
    return rules


def _pattern_of(change: Change) -> re.Pattern[str]:
    """Match what is between the surroundings as group "old"."""
    left, old, right = (_spaced(tokens) for tokens in (change.left, change.old, change.right))
    edge = r"(?<!\w)" if not left else ""
    middle = rf"\s*{old}\s*" if old else r"\s*"
    if not left:
        middle = middle.removeprefix(r"\s*")
    if not right:
        middle = middle.removesuffix(r"\s*")
    right = right or r"(?!\w)"
    return re.compile(rf"{edge}{left}(?P<old>{middle})(?={right})")


def _spaced(tokens: Tokens) -> str:
    return r"\s*".join(re.escape(token) for token in tokens)


# --- both ----------------------------------------------------------------------------------------


def _word(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?P<old>{re.escape(name)})(?!\w)")


def _first_change(
    lines: Sequence[str],
    where: Sequence[int],
    rules: Sequence[tuple[re.Pattern[str], str]],
    language: Language,
    why: str,
) -> LineChange | None:
    """The first line of `where` in which all rules apply to code, changed by them."""
    for n in where:
        if rules and all(pattern.search(lines[n]) for pattern, _ in rules):
            new = _changed(lines, n, rules, language)
            if new is not None and new != lines[n]:
                return LineChange(n, new, why)
    return None


def _changed(
    lines: Sequence[str],
    line_idx: int,
    rules: Sequence[tuple[re.Pattern[str], str]],
    language: Language,
) -> str | None:
    """The line with every rule applied outside of strings and comments; None if one is not."""
    before = "".join(f"{line}\n" for line in lines[:line_idx])
    text = lines[line_idx]
    for pattern, new in rules:
        is_code = _code_of(language, before, text)
        matches = [m for m in pattern.finditer(text) if all(is_code[slice(*m.span("old"))])]
        if not matches:
            return None
        for match in reversed(matches):
            start, end = match.span("old")
            text = f"{text[:start]}{new}{text[end:]}"
    return text


def _code_of(language: Language, before: str, text: str) -> list[bool]:
    """For each character of a line, whether it is outside of strings and comments."""
    lexer = Lexer(language)
    lexer.read(before)
    is_code: list[bool] = []
    for char in text:
        was_in_text = lexer.is_in_text
        lexer.step(char)
        is_code.append(not was_in_text and not lexer.is_in_text)
    return is_code
