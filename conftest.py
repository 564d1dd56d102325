"""Lets tests import each other's helpers (`tests.…`); an installed flash-lsp still comes first.
Options of all tests."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--gpu",
        choices=("emulated", "cuda", "hip"),
        default="emulated",
        help="where the tests of GPU ops run: on the processor, or on a device of this machine",
    )
