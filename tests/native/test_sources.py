"""What native code must never do: end the process, print, or carry its test's leftovers."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FILES = sorted([*ROOT.glob("native/**/*.h"), *ROOT.glob("native/**/*.cpp")])
FORBIDDEN = {
    r"\babort\s*\(": "ends the process",
    r"\b_?exit\s*\(": "ends the process",
    r"\bassert\s*\(": "ends the process in debug builds; throw Error",
    r"\bprintf\s*\(|std::c(out|err)|\bputs\s*\(": "prints",
    r"\bcatch\s*\(\s*\.\.\.": "hides errors",
    r"-ffast-math|#pragma\s+GCC\s+optimize": "changes arithmetic",
    r"\busing namespace std\b": "hides where names come from",
}


# What runs in every step works in memory that exists since the plan was built.
STEP_FILES = [
    *ROOT.glob("native/cpu/kernels/*.h"),
    *(ROOT / "native/cpu" / name for name in ("ops.cpp", "attention.cpp")),
]
ALLOCATES = re.compile(
    r"std::(vector|string|to_string|function|deque|map|unique_ptr|shared_ptr)\b"
    r"|\b(resize|push_back|emplace_back|assign|reserve|malloc|calloc|new|make_\w+)\b"
)


def without_comments(text: str) -> str:
    return re.sub(r"//[^\n]*", "", text)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_native_code_keeps_the_rules(path: Path, pattern: str) -> None:
    found = re.search(pattern, without_comments(path.read_text("utf-8")))
    assert not found, f"{path.name}: '{found.group()}' {FORBIDDEN[pattern]}"


@pytest.mark.parametrize("path", STEP_FILES, ids=lambda p: p.name)
def test_a_step_allocates_nothing(path: Path) -> None:
    found = ALLOCATES.search(without_comments(path.read_text("utf-8")))
    assert not found, f"{path.name}: '{found.group()}' allocates"


def test_neither_checking_nor_preparing_a_step_allocates() -> None:
    plan = without_comments((ROOT / "native/cpu/plan.cpp").read_text("utf-8"))
    stepping = plan[plan.index("void Plan::check_inputs") :]
    found = ALLOCATES.search(stepping)
    assert not found, f"plan.cpp: '{found.group()}' allocates"
    assert "number(" not in stepping, "a text is made for a check that holds"


@pytest.mark.parametrize("path", [p for p in FILES if p.suffix == ".h"], ids=lambda p: p.name)
def test_headers_say_what_they_own(path: Path) -> None:
    assert path.read_text("utf-8").startswith("// ")


def test_intrinsics_stay_in_kernels() -> None:
    intrinsics = re.compile(r"_mm256|\bv[a-z0-9]+q_[a-z]\d+\b")
    users = {p.name for p in FILES if intrinsics.search(p.read_text("utf-8"))}
    assert {name for name in users if not (ROOT / "native/cpu/kernels" / name).exists()} == set()
