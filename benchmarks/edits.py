"""How many typical instructions a model turns into a clean edit that does what was asked.

    python -m benchmarks.edits --model qwen2.5-coder-0.5b [--json FILE]

The instructions are those of tests/data/edit_corpus.toml. "clean" edits were not refused; "done"
ones also match all that the corpus expects of them.
"""

import argparse
import asyncio
import json
import re
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.client import AsyncEngine, InProcessEngine
from engine.config import EngineConfig
from lsp_server.edit import EditOptions, rewrite
from lsp_server.prompt.edit_output import EditRefusedError
from lsp_server.prompt.edit_prompt import EditInput

CORPUS = Path(__file__).parent.parent / "tests" / "data" / "edit_corpus.toml"
MARK = "‸"


@dataclass(frozen=True)
class Instruction:
    name: str
    inp: EditInput
    wanted: tuple[str, ...]
    unwanted: tuple[str, ...]

    def is_done(self, text: str) -> bool:
        """Whether the new lines are what the corpus expects."""
        return all(re.search(p, text) for p in self.wanted) and not any(
            re.search(p, text) for p in self.unwanted
        )


@dataclass(frozen=True)
class Outcome:
    """`refused` is None for a clean edit; `replacement` is its text or the refusal's message."""

    name: str
    refused: str | None
    is_done: bool
    replacement: str
    raw: str
    decode_ms: float
    gain: float


def load_instructions() -> list[Instruction]:
    with CORPUS.open("rb") as file:
        return [_instruction_of(**row) for row in tomllib.load(file)["instruction"]]


def _instruction_of(
    *,
    name: str,
    language: str,
    instruction: str,
    document: str,
    wanted: list[str],
    unwanted: list[str] | None = None,
    keeps_code: bool = False,
) -> Instruction:
    before, selection, after = document.split(MARK)
    inp = EditInput(before, selection, after, instruction, language, keeps_code=keeps_code)
    return Instruction(name, inp, tuple(wanted), tuple(unwanted or ()))


async def run_all(engine: AsyncEngine, instructions: list[Instruction]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for case in instructions:
        said: list[str] = []
        refused, decode_ms, gain = None, 0.0, 0.0
        try:
            edit = await rewrite(engine, case.inp, EditOptions(), said.append)
            text, decode_ms = edit.replacement, edit.result.timings_ms.decode
            gain = edit.result.speculation.plain_ms / max(decode_ms, 1e-9)
        except EditRefusedError as error:
            text, refused = str(error), error.reason.value
        is_done = refused is None and case.is_done(text)
        outcome = Outcome(case.name, refused, is_done, text, "".join(said), decode_ms, gain)
        outcomes.append(outcome)
        verdict = f"refused ({refused}: {text})" if refused else ("done" if is_done else "clean")
        print(f"{case.name:28} {verdict:8} {decode_ms:6.0f} ms {gain:5.2f}x plain", flush=True)
    return outcomes


def summed(model: str, outcomes: list[Outcome]) -> dict[str, Any]:
    return {
        "model": model,
        "instructions": len(outcomes),
        "clean": sum(outcome.refused is None for outcome in outcomes),
        "done": sum(outcome.is_done for outcome in outcomes),
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }


async def measure(model: str) -> dict[str, Any]:
    engine = InProcessEngine(EngineConfig(model=model))
    try:
        await engine.start()
        return summed(model, await run_all(engine, load_instructions()))
    finally:
        await engine.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="qwen2.5-coder-0.5b", help="catalogue name or GGUF path")
    parser.add_argument("--json", type=Path, help="write every outcome to this file")
    arguments = parser.parse_args()
    report = asyncio.run(measure(arguments.model))
    print(f"{report['clean']} of {report['instructions']} clean, {report['done']} done")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=1, ensure_ascii=False), "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
