"""What is sent."""

from __future__ import annotations

MB = 1 << 20
RECORD_SIZE = 100


def small() -> object:
    return {"id": 1, "value": 2.5}


def record() -> object:
    """A dict whose pickle has about 100 bytes."""
    return {
        "id": 42,
        "job": "thumbnail",
        "path": "/srv/in/0042.png",
        "seconds": 0.125,
        "ok": True,
        "worker": 3,
    }


def blob(size: int) -> bytes:
    """Bytes in pages of their own; zeros would all be one page."""
    return b"\xa5" * size
