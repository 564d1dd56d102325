"""The folders a client has open, and where in them a document lies. Reads no files."""

import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote

from lsp_server.protocol import WorkspaceFolder

# RFC 3986, appendix B; not urlsplit, which raises on what a client may well send.
_PATH = re.compile(r"[A-Za-z][\w+.-]*:(?://[^/?#]*)?([^?#]*)")


class Folders:
    """The workspace's folders, by URI."""

    def __init__(self) -> None:
        self._uris: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return iter(self._uris)

    def change(self, added: Iterable[WorkspaceFolder], removed: Iterable[WorkspaceFolder]) -> None:
        gone = {folder.uri for folder in removed}
        kept = [uri for uri in self._uris if uri not in gone]
        self._uris = kept + [folder.uri for folder in added if folder.uri not in kept]

    def relative_path(self, uri: str) -> str:
        """The document's path inside its folder, or its bare name outside all of them."""
        parts = _parts(uri)
        innermost = len(self._folder_of(parts)) or max(len(parts) - 1, 0)
        return "/".join(parts[innermost:]) or parts[-1]

    def name_of(self, uri: str) -> str:
        """The name of the document's folder, or of what it lies in outside of all of them."""
        parts = _parts(uri)
        return (self._folder_of(parts) or parts[:-1] or ("",))[-1]

    def _folder_of(self, parts: tuple[str, ...]) -> tuple[str, ...]:
        """The innermost open folder around a path, () for none."""
        inside = [folder for f in self._uris if parts[: len(folder := _parts(f))] == folder]
        return max(inside, key=len, default=())


def _parts(uri: str) -> tuple[str, ...]:
    """A URI's path without empty components; scheme and host do not matter here."""
    match = _PATH.match(uri)
    path = unquote(match.group(1)) if match else ""
    return tuple(part for part in path.split("/") if part) or (uri,)
