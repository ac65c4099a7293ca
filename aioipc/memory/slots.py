"""Which part of an arena a buffer gets; pure.

A slot's size is a power of two. A free slot is kept, with its memory, for the next
buffer of its size: the one that was freed last goes first, because its pages are warm.
Slots lie in segments, each of which is mapped as a whole; one that is as large as a
segment, or larger, is a segment by itself.

What counts is memory that has been written to, not the size of slots: an arena is a
sparse file. Where it would grow above its limit, free slots have to give theirs back.
"""

from typing import NamedTuple

__all__ = ["SEGMENT", "SMALLEST", "Segment", "Slots", "segment_of", "size_of_slot"]

SMALLEST = 1 << 16
"""Bytes of the smallest slot."""

SEGMENT = 1 << 26
"""Bytes that are mapped together, unless a slot is larger."""

_PAGE = 4096


class Segment(NamedTuple):
    """A part of an arena that is mapped as a whole."""

    start: int
    size: int


def size_of_slot(size: int) -> int:
    """Return the size of the slot that a buffer of `size` bytes gets."""
    return max(SMALLEST, 1 << (size - 1).bit_length())


def segment_of(start: int, size: int) -> Segment:
    """Return the segment of the slot at `start` that holds `size` bytes."""
    slot = size_of_slot(size)
    if slot >= SEGMENT:
        return Segment(start, slot)
    return Segment(start - start % SEGMENT, SEGMENT)


class Slots:
    """The slots of one arena, known by where they start.

    :ivar held: bytes of memory that the arena has, in use or kept for the next buffer
    :ivar used: bytes of it that are in use
    :ivar end: where the last segment ends
    :param limit: of `held`
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = self.used = self.end = 0
        self._next = 0  # in the segment of small slots that is not full
        self._left = 0  # bytes in it
        self._free: dict[int, list[int]] = {}  # by size
        self._sizes: dict[int, int] = {}  # of slots
        self._written: dict[int, int] = {}  # bytes of memory of slots
        self._uses: dict[int, int] = {}

    @property
    def count(self) -> int:
        """How many slots are in use."""
        return len(self._uses)

    def take(self, size: int) -> "tuple[int, list[tuple[int, int]]] | None":
        """Take a slot for `size` bytes.

        :returns: where it starts, and the start and size of what has to be given back
            before; None if there is no room
        """
        needed = -(-size // _PAGE) * _PAGE
        capacity = size_of_slot(size)
        free = self._free.get(capacity)
        start = free.pop() if free else None
        growth = max(
            0, needed - self._written.get(start, 0) if start is not None else needed
        )
        given_back = self._make_room(growth)
        if given_back is None:
            if start is not None:
                self._free[capacity].append(start)
            return None
        if start is None:
            start = self._new(capacity)
        self.held += growth
        self._written[start] = self._written.get(start, 0) + growth
        self._uses[start] = needed
        self.used += needed
        return start, given_back

    def free(self, start: int) -> None:
        """Keep a slot, with its memory, for the next buffer."""
        self.used -= self._uses.pop(start)
        self._free.setdefault(self._sizes[start], []).append(start)

    def clear(self) -> None:
        """Forget all slots, none of which is in use."""
        assert not self._uses
        self.__init__(self.limit)

    def _make_room(self, growth: int) -> list[tuple[int, int]] | None:
        """Have free slots give back their memory, the largest and coldest first."""
        excess = self.held + growth - self.limit
        given_back: list[tuple[int, int]] = []
        if excess <= 0:
            return given_back
        free = [start for _, free in sorted(self._free.items())[::-1] for start in free]
        if sum(self._written[start] for start in free) < excess:
            return None
        for start in free:
            written = self._written[start]
            if written and excess > 0:
                given_back.append((start, written))
                self._written[start] = 0
                self.held -= written
                excess -= written
        return given_back

    def _new(self, capacity: int) -> int:
        if capacity >= SEGMENT:
            start, self.end = self.end, self.end + capacity
        else:
            if self._left < capacity:
                # What is left of the old one stays unused: it costs no memory.
                self._next, self._left = self.end, SEGMENT
                self.end += SEGMENT
            start = self._next
            self._next += capacity
            self._left -= capacity
        self._sizes[start] = capacity
        return start
