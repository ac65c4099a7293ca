"""Which part of an arena a buffer gets; pure.

A slot's size is a power of two. A free slot is kept, with its memory, for the next
buffer of its size: the one that was freed last goes first, because its pages are warm.
Slots lie in segments, each of which is mapped as a whole; one that is as large as a
segment, or larger, is a segment by itself.

What counts is memory that has been written to, not the size of slots: an arena is a
sparse file. Where it would grow above its limit, free slots have to give theirs back.
That takes long, and is for the caller to do: until then they can't be taken.
"""

from collections import deque
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
    :ivar to_give_back: the start, and the bytes of memory, of slots that are to give
        them back; the caller removes one, has it done, and calls `gave_back`
    :ivar limit: of `held`
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.to_give_back: list[tuple[int, int]] = []
        self.held = self.used = self.end = 0
        self._next = 0  # in the segment of small slots that is not full
        self._left = 0  # bytes in it
        self._warm: dict[int, deque[int]] = {}  # free, by size: the warmest is the last
        self._cold: dict[int, list[int]] = {}  # free and without memory
        self._sizes: dict[int, int] = {}  # of slots
        self._written: dict[int, int] = {}  # bytes of memory of slots
        self._uses: dict[int, int] = {}
        self._spare = 0  # bytes of memory of free slots
        self._growth = 0  # what the last `take` has added to the memory of its slot

    @property
    def count(self) -> int:
        """How many slots are in use."""
        return len(self._uses)

    def take(self, size: int) -> int | None:
        """Take a slot for `size` bytes.

        :returns: where it starts; None if there is no room
        """
        needed = -(-size // _PAGE) * _PAGE
        capacity = size_of_slot(size)
        warm, cold = self._warm.get(capacity), self._cold.get(capacity)
        written = self._written[warm[-1]] if warm else 0
        growth = max(0, needed - written)
        excess = self.held + growth - self.limit
        if excess > self._spare - written:
            return None
        start = warm.pop() if warm else cold.pop() if cold else self._new(capacity)
        self._spare -= written
        self._give_back(excess)
        self.held += growth
        self._growth = growth
        self._written[start] = written + growth
        self._uses[start] = needed
        self.used += needed
        return start

    def untake(self, start: int) -> None:
        """Undo the last `take`: the slot is not to be had."""
        self.held -= self._growth
        self._written[start] -= self._growth
        size = self._sizes[start]
        if start + size == self.end and size >= SEGMENT and not self._written[start]:
            self.end = start  # or no smaller one could be had behind it
            self.used -= self._uses.pop(start)
        else:
            self.free(start)

    def free(self, start: int) -> None:
        """Keep a slot, with its memory, for the next buffer."""
        self.used -= self._uses.pop(start)
        self._keep(start)

    def give_back_all(self) -> None:
        """Have all free slots give back their memory."""
        self._give_back(self._spare)

    def gave_back(self, start: int, left: int = 0) -> None:
        """Note that a slot has no memory any more, or that so much is left."""
        self._written[start] = left
        self.held += left
        self._keep(start)

    def _keep(self, start: int) -> None:
        size, written = self._sizes[start], self._written[start]
        self._spare += written
        if written:
            self._warm.setdefault(size, deque()).append(start)
        else:
            self._cold.setdefault(size, []).append(start)

    def _give_back(self, excess: int) -> None:
        """Have slots give back that many bytes, the largest and coldest first."""
        if excess <= 0:
            return
        for _, warm in sorted(self._warm.items(), reverse=True):
            while warm and excess > 0:
                start = warm.popleft()
                written = self._written[start]
                self.to_give_back.append((start, written))
                self._written[start] = 0
                self._spare -= written
                self.held -= written
                excess -= written

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
