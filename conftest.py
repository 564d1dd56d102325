"""Lets tests import each other's helpers (`tests.…`); an installed flash-lsp still comes first."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
