"""The folders that are indexed, and which of them a document's URI belongs to."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

import msgspec


class Root(msgspec.Struct, frozen=True):
    """One folder: `uri` as the client writes it, `path` with all links resolved.

    `prefix` begins the paths of its files where several folders are open: "name/", else "".
    """

    uri: str
    path: Path
    lexical_path: str
    prefix: str = ""

    def uri_of(self, relative: str) -> str:
        """Name a file as the client would."""
        return f"{self.uri.rstrip('/')}/{quote(relative, safe='/~!$&()*+,;=@')}"


class Place(msgspec.Struct, frozen=True):
    """A file by its folder and its path in it."""

    root: Root
    relative: str


def path_of_uri(uri: str) -> str | None:
    """The file a URI names, None if it names none."""
    try:
        parts = urlsplit(uri)
        if parts.scheme != "file":
            return None
        path = url2pathname(parts.path)
    except ValueError:
        return None
    if re.match(r"[/\\][A-Za-z]:", path) and os.name == "nt":
        path = path[1:]
    return os.path.normpath(path) if "\0" not in path and path else None


def roots_of(uris: Iterable[str]) -> tuple[list[Root], list[str]]:
    """The folders that exist, each once, and a warning for every other one."""
    found: dict[Path, Root] = {}
    warnings: list[str] = []
    for uri in uris:
        path = path_of_uri(uri)
        if path is None or not os.path.isdir(path):
            warnings.append(f"folder '{uri}' is not indexed: expected an existing file: folder")
            continue
        resolved = Path(path).resolve()
        found.setdefault(resolved, Root(uri, resolved, path))
    roots = list(found.values())
    if len(roots) < 2:
        return roots, warnings
    names: set[str] = set()
    return [_with_prefix(root, names) for root in roots], warnings


def _with_prefix(root: Root, names: set[str]) -> Root:
    base = name = root.path.name or "root"
    n = 1
    while name in names:
        n += 1
        name = f"{base}-{n}"
    names.add(name)
    return msgspec.structs.replace(root, prefix=f"{name}/")


def locate(roots: Sequence[Root], uri: str) -> Place | None:
    """Find a document in the innermost folder that holds it."""
    path = path_of_uri(uri)
    best: Place | None = None
    for root in roots if path is not None else ():
        for base in (root.lexical_path, str(root.path)):
            if path is not None and path.startswith(base.rstrip(os.sep) + os.sep):
                relative = path[len(base.rstrip(os.sep)) + 1 :].replace(os.sep, "/")
                if best is None or len(relative) < len(best.relative):
                    best = Place(root, relative)
    return best


def inner_prefixes(root: Root, roots: Sequence[Root]) -> tuple[str, ...]:
    """The parts of a folder that are folders of the workspace themselves, with "/" at the end."""
    return tuple(
        f"{other.path.relative_to(root.path).as_posix()}/"
        for other in roots
        if other.path != root.path and other.path.is_relative_to(root.path)
    )
