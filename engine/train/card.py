"""A drafter's card: what it was trained on, how, and what it yields; Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.train.evaluate import Figures

_HEAD = (
    "texts",
    "first",
    "chain",
    "tree_8",
    "tree_16",
    "tree_32",
)


@dataclass(frozen=True)
class PackageRow:
    """What one package gave to the corpus."""

    package: str
    licence: str
    language: str
    n_files: int
    n_chars: int
    held_out: bool


def write_card(
    name: str, run: dict[str, float | str], acceptance: Figures, packages: Sequence[PackageRow]
) -> str:
    trained = [row for row in packages if not row.held_out]
    held_out = sorted({row.package for row in packages if row.held_out})
    lines = [f"# {name}", "", "A DFlash drafter: proposes several tokens for its target to verify."]
    lines += ["", "## Run", "", *(f"- {key.replace('_', ' ')}: {run[key]}" for key in run)]
    lines += ["", "## Acceptance", ""]
    lines += ["Tokens per step along the target's own greedy text for held-out prompts."]
    lines += ["Texts that repeat themselves are left out."]
    lines += ["Trees are simulated: the number of nodes follows `tree`.", ""]
    lines += _table(("", *_HEAD), [(key, *_cells(row)) for key, row in acceptance.items()])
    lines += ["", "## Data", "", *_by_language(trained)]
    lines += ["", f"Held out, never trained on: {', '.join(held_out) or 'nothing'}."]
    lines += ["", "Licences as the packages declare them:", ""]
    seen = sorted({(row.package, row.licence.replace("\n", " and ")) for row in packages})
    lines += [f"- {package}: {licence}" for package, licence in seen]
    return "\n".join(lines) + "\n"


def _cells(row: dict[str, float]) -> list[str]:
    return [f"{row[key]:.0f}" if key == "texts" else f"{row[key]:.2f}" for key in _HEAD]


def _by_language(packages: Sequence[PackageRow]) -> list[str]:
    rows: list[tuple[str, ...]] = []
    for language in sorted({row.language for row in packages}):
        some = [row for row in packages if row.language == language]
        n_files, n_chars = sum(row.n_files for row in some), sum(row.n_chars for row in some)
        rows.append((language, str(len(some)), str(n_files), f"{n_chars / 1e6:.1f}"))
    return _table(("language", "packages", "files", "million characters"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]
