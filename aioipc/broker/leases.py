"""Which items the threads of a worker have on lease, and which one is done."""

import threading
from collections import deque

__all__ = ["Leases"]


class Leases:
    """Numbers of items that are taken and not dealt with, by what took them.

    A thread is at what its last `get` has brought: of several items, at the first. When
    it has dealt with all of them, it is at what the `get` before has brought.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gets: list[tuple[int, deque[int]]] = []  # by whom, and what; oldest first

    def add(self, thread: int, first: int, count: int) -> None:
        """Note that a thread has got items, from the number `first` on."""
        with self._lock:
            self._gets.append((thread, deque(range(first, first + count))))

    def end(self, thread: int) -> int | None:
        """Return the number of the item that a thread is at; it has it no more.

        If it has none: of what another one got first. None if there is nothing at all.
        """
        with self._lock:
            gets = self._gets
            for index in reversed(range(len(gets))):
                if gets[index][0] == thread:
                    break
            else:
                if not gets:
                    return None
                index = 0
            return self._remove(index, gets[index][1][0])

    def end_one(self, number: int) -> bool:
        """Note that someone has an item no more; False if no one had it."""
        with self._lock:
            for index in reversed(range(len(self._gets))):
                if number in self._gets[index][1]:
                    self._remove(index, number)
                    return True
            return False

    def end_get(self, first: int, *, but: int) -> None:
        """Note that what a `get` has brought was not got after all, but for one.

        :param first: number of the first item
        """
        with self._lock:
            for thread, numbers in self._gets:
                if numbers[0] == first:
                    self._gets.remove((thread, numbers))
                    if but in numbers:
                        self._gets.append((thread, deque([but])))
                    return

    def end_all(self, thread: int) -> list[int]:
        """Return the numbers of all that a thread has; it has nothing any more."""
        with self._lock:
            mine = [numbers for who, numbers in self._gets if who == thread]
            self._gets = [get for get in self._gets if get[0] != thread]
            return [number for numbers in mine for number in numbers]

    def pass_on(self, thread: int, other: int) -> None:
        """Have all that a thread has belong to another one, or to a name for none."""
        with self._lock:
            self._gets = [
                (other if who == thread else who, numbers)
                for who, numbers in self._gets
            ]

    def _remove(self, index: int, number: int) -> int:
        numbers = self._gets[index][1]
        numbers.remove(number)
        if not numbers:
            del self._gets[index]
        return number
