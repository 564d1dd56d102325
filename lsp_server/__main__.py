"""Entry point of `flash-lsp` and `python -m lsp_server`."""

import sys

from lsp_server.cli import run


def main() -> int:
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
