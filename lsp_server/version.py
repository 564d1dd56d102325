"""Which flash-lsp this is."""

from importlib import metadata


def own_version() -> str:
    """The installed version."""
    try:
        return metadata.version("flash-lsp")
    except metadata.PackageNotFoundError:
        return "0+unpackaged"
