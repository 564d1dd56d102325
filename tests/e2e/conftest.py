"""What the end-to-end tests share: the real server's command line, and text to complete."""

from pathlib import Path

import pytest

from tests.e2e.command import flash_lsp
from tests.models import find_model

MODEL = "smollm2-135m"

# Any model of code goes on counting here, so that an answer can be judged without taste.
COUNTING = (
    'NUMBERS = {\n    "one": 1,\n    "two": 2,\n    "three": 3,\n    "four": 4,\n    "five": '
)
COUNTING_PLACE = (5, 12)  # where it ends: line and character, both from zero


@pytest.fixture(scope="session")
def server_command() -> list[str]:
    """`flash-lsp serve` with the small model."""
    model = find_model(MODEL)
    if model is None:
        pytest.skip(f"the model {MODEL} is not here; fetch it with: flash-lsp models fetch {MODEL}")
    return flash_lsp("serve", "--model", str(model))


@pytest.fixture
def counting_file(tmp_path: Path) -> Path:
    path = tmp_path / "numbers.py"
    path.write_text(COUNTING, encoding="utf-8")
    return path
