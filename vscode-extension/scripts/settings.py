"""Writes the server's settings into package.json: their one declaration is lsp_server/settings.py.

python vscode-extension/scripts/settings.py [--check]
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "vscode-extension" / "package.json"
sys.path[:0] = [str(ROOT)]

from lsp_server.settings import SECTION, json_schema  # noqa: E402

_TITLE = "flash-lsp: server"
_OWN_RESTRICTED = ("flash-lsp.command",)


def property_of(described: dict[str, Any]) -> dict[str, Any]:
    """A setting as VS Code's editor shows it best: with a list of types, not of schemas."""
    described = dict(described)
    choices = described.pop("anyOf", None)
    if choices is not None:
        types = [choice["type"] for choice in choices]
        rest = {k: v for choice in choices for k, v in choice.items() if k != "type"}
        described |= {"type": types, **rest}
    elif "enum" in described:
        described["type"] = "string"
    described.setdefault("scope", "window")
    return described


def with_settings(package: dict[str, Any]) -> dict[str, Any]:
    """The package with the present settings; those of one machine are restricted to trust."""
    properties = {
        f"{SECTION}.{name}": property_of(described)
        for name, described in json_schema()["properties"].items()
    }
    own = [c for c in package["contributes"]["configuration"] if c["title"] != _TITLE]
    package["contributes"]["configuration"] = [*own, {"title": _TITLE, "properties": properties}]
    of_machine = [name for name, described in properties.items() if described["scope"] == "machine"]
    untrusted = package["capabilities"]["untrustedWorkspaces"]
    untrusted["restrictedConfigurations"] = [*_OWN_RESTRICTED, *of_machine]
    return package


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if it would")
    args = parser.parse_args()
    present = PACKAGE.read_text(encoding="utf-8")
    wanted = json.dumps(with_settings(json.loads(present)), indent=2, ensure_ascii=False) + "\n"
    if args.check:
        if present != wanted:
            print(f"{PACKAGE.name} is out of date; run: npm run settings", file=sys.stderr)
        return int(present != wanted)
    PACKAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
