"""Messages in parts: when they are large, and what is left of one half written."""

__all__ = ["BULK", "IOV_MAX", "LARGE", "drop_written"]

LARGE = 1 << 18
"""Bytes: from here on, unpickling a body takes about 1 ms or more."""

BULK = 1 << 20
"""Bytes: from here on, a bare copy takes that long."""

IOV_MAX = 512
"""Parts that one `writev` is given at most; Linux takes 1,024."""


def drop_written(parts: list[memoryview], count: int) -> None:
    """Remove the first `count` bytes."""
    whole = 0
    while whole < len(parts) and count >= len(parts[whole]):
        count -= len(parts[whole])
        whole += 1
    del parts[:whole]
    if count:
        parts[0] = parts[0][count:]
