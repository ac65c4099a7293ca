"""Where the items of a queue lie, in the order in which they are to be taken.

Each item has a place in that order, which it keeps while it is away: what comes back,
because no one took it after all, lies where it would be if it had never left.
"""

import contextlib
import heapq
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable
from operator import attrgetter
from typing import Any

__all__ = ["Heap", "Item", "Line", "Shelf"]


class Item:
    """What a queue holds: a value, its pickle, or both.

    :ivar value: `ABSENT` if there is only the pickle, as from another process
    :ivar pickled: None if there is only the value
    :ivar place: in the order of its shelf
    """

    __slots__ = ("pickled", "place", "value")

    def __init__(self, value: Any, pickled: bytes | None = None) -> None:
        self.value = value
        self.pickled = pickled
        self.place = 0

    def __lt__(self, other: "Item") -> bool:
        # A heap that is interrupted by an error has lost its order, or an item.
        with contextlib.suppress(Exception):
            if self.value < other.value:
                return True
            if other.value < self.value:
                return False
        return self.place < other.place


class Shelf(ABC):
    """A pile of items."""

    __slots__ = ()

    @abstractmethod
    def push(self, item: Item, *, left: bool = False) -> None:
        """Add an item, at the left end if there are two.

        :raises TypeError: if it can't be compared with the next one, where that matters
        """

    def push_all(self, items: list[Item], *, left: bool = False) -> None:
        """Move items here, beginning with the last one.

        :raises TypeError: as `push` does; those before are here, and the rest is there
        """
        while items:
            self.push(items[-1], left=left)
            items.pop()

    @abstractmethod
    def pop(self, *, left: bool = True) -> Item:
        """Remove and return an item, from the left end if there are two."""

    def pop_many(self, count: int, *, left: bool = True) -> list[Item]:
        """Remove and return so many items."""
        return [self.pop(left=left) for _ in range(count)]

    @abstractmethod
    def restore(self, items: Iterable[Item]) -> None:
        """Put items back in the places that they had."""

    @abstractmethod
    def clear(self) -> None:
        """Drop all."""

    @abstractmethod
    def __len__(self) -> int:
        """Return how many there are."""


class Line(Shelf):
    """Items side by side: first in first out, last in first out, or from both ends."""

    __slots__ = ("_first", "_items", "_last")

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._first, self._last = 0, -1  # places ever given at either end

    def push(self, item: Item, *, left: bool = False) -> None:
        if left:
            self._first -= 1
            item.place = self._first
            self._items.appendleft(item)
        else:
            self._last += 1
            item.place = self._last
            self._items.append(item)

    def push_all(self, items: list[Item], *, left: bool = False) -> None:
        if left:
            super().push_all(items, left=left)
            return
        items.reverse()
        for place, item in enumerate(items, self._last + 1):
            item.place = place
        self._last += len(items)
        self._items += items
        items.clear()

    def pop(self, *, left: bool = True) -> Item:
        return self._items.popleft() if left else self._items.pop()

    def pop_many(self, count: int, *, left: bool = True) -> list[Item]:
        pop = self._items.popleft if left else self._items.pop
        return [pop() for _ in range(count)]

    def restore(self, items: Iterable[Item]) -> None:
        mine, back = self._items, sorted(items, key=_place)
        if not mine or not back or back[-1].place < mine[0].place:
            mine.extendleft(reversed(back))
        else:
            self._items = deque(sorted((*mine, *back), key=_place))

    def clear(self) -> None:
        self._items.clear()

    def __len__(self) -> int:
        return len(self._items)


class Heap(Shelf):
    """The smallest first; of equal ones, the one that came first."""

    __slots__ = ("_items", "_last")

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._last = -1

    def push(self, item: Item, *, left: bool = False) -> None:  # noqa: ARG002
        bool(
            item.value < (self._items[0] if self._items else item).value
        )  # it may raise
        self._last += 1
        item.place = self._last
        heapq.heappush(self._items, item)

    def pop(self, *, left: bool = True) -> Item:  # noqa: ARG002
        return heapq.heappop(self._items)

    def restore(self, items: Iterable[Item]) -> None:
        for item in items:
            heapq.heappush(self._items, item)

    def clear(self) -> None:
        self._items.clear()

    def __len__(self) -> int:
        return len(self._items)


_place = attrgetter("place")
