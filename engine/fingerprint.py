"""What names a model file in caches on disk."""

import hashlib
from pathlib import Path

_HASHED_BYTES = 2**16


def fingerprint(model: Path, more: str) -> str:
    """Of a model's size, its ends and `more`: reading all of a model would take seconds."""
    n_bytes = model.stat().st_size
    digest = hashlib.sha256(f"{n_bytes} {more}".encode())
    with model.open("rb") as file:
        digest.update(file.read(_HASHED_BYTES))
        file.seek(max(n_bytes - _HASHED_BYTES, 0))
        digest.update(file.read(_HASHED_BYTES))
    return digest.hexdigest()[:32]
