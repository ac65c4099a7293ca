"""What is left of a message in several parts when some of it has been written."""

__all__ = ["IOV_MAX", "drop_written"]

IOV_MAX = 512
"""Parts that one `writev` is given at most; Linux takes 1,024."""


def drop_written(parts: list[memoryview], count: int) -> None:
    """Remove the first `count` bytes."""
    while parts and count >= len(parts[0]):
        count -= len(parts.pop(0))
    if count:
        parts[0] = parts[0][count:]
