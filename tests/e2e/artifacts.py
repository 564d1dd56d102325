"""Where tests leave pictures for people to look at: `$FLASH_LSP_ARTIFACTS`, or build/artifacts."""

import os
from pathlib import Path

ARTIFACTS = Path(
    os.environ.get("FLASH_LSP_ARTIFACTS", Path(__file__).parents[2] / "build" / "artifacts")
)
