"""What the users of a queue did, in shared memory: it outlives whoever is killed.

Each process writes down what it has done as soon as the call has returned. Every number
has one writer at a time, so that nothing is lost between two of them.

Note to the next reader. A process may be killed between a call and its note. So an item
that is noted as put, got or done is that; one that is not noted may be, and there is
one call of those for each kill.
"""

from __future__ import annotations

import mmap
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aioipc import ShutDown

if TYPE_CHECKING:
    from collections.abc import Callable

USERS = 2
"""Producers, and as many consumers."""

CALLS = (1, 16)
"""Items in each call of the first producer and consumer, and of the second."""

CAPACITY = 1 << 26
"""Items of each producer; memory that is not touched is not used."""

WINDOW = 2_500
"""Items of a producer that may be on their way before it waits."""

EVERY = 1.0
"""Seconds between kills."""

LOOK = 0.002
"""Seconds between looks at the ledger."""

FILL = b"\xa5" * 80
PRODUCER, CONSUMER = "producer", "consumer"
User = tuple[str, int]
EVERYONE = [(role, number) for role in (PRODUCER, CONSUMER) for number in range(USERS)]
_HEAD = mmap.PAGESIZE


class Ledger:
    """What was put, got and done.

    :ivar put: by producer, how many items its `put` has returned from
    :ivar got: by consumer, how many items its `get` has returned
    :ivar reached: by producer, the number after the greatest that was got
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _HEAD + 2 * USERS * CAPACITY)
        words = memoryview(self._memory)[:_HEAD].cast("Q")
        self.put, self.got = words[:USERS], words[USERS : 2 * USERS]
        self.reached = words[2 * USERS : 3 * USERS]
        self._over = words[3 * USERS : 3 * USERS + 1]

    def note_got(self, producer: int, number: int) -> None:
        self._memory[_HEAD + 2 * producer * CAPACITY + number] += 1
        if number >= self.reached[producer]:
            self.reached[producer] = number + 1

    def note_done(self, producer: int, number: int) -> None:
        self._memory[_HEAD + (2 * producer + 1) * CAPACITY + number] += 1

    def times_got(self, producer: int, count: int) -> bytes:
        """Return how often each of the first items was got."""
        start = _HEAD + 2 * producer * CAPACITY
        return self._memory[start : start + count]

    def times_done(self, producer: int, count: int) -> bytes:
        """Return how often each of the first items was done."""
        start = _HEAD + (2 * producer + 1) * CAPACITY
        return self._memory[start : start + count]

    def passed_on(self) -> int:
        """Return how many items have been got."""
        return sum(self.got)

    def end(self) -> None:
        """Have the producers stop."""
        self._over[0] = 1

    def may_go_on(self, who: int, number: int) -> bool:
        """Wait until few enough of a producer's items are on their way.

        :returns: False at the end
        """
        while number > self.reached[who] + WINDOW and not self._over[0]:
            time.sleep(0.001)
        return not self._over[0] and number + max(CALLS) < CAPACITY


def produce(jobs: Any, ledger: Ledger, who: int, first: int, most: int) -> None:
    """Put numbered items, from `first` on."""
    number = first
    while ledger.may_go_on(who, number):
        if most == 1:
            jobs.put((who, number, FILL))
        else:
            jobs.put_many([(who, number + n, FILL) for n in range(most)])
        number += most
        ledger.put[who] = number


def consume(jobs: Any, ledger: Ledger, who: int, most: int, *, done: bool) -> None:
    """Get items until the queue is shut down.

    :param done: whether to tell the queue of each item that has been dealt with
    """
    get: Callable[[], Any]
    get = (lambda: (jobs.get(),)) if most == 1 else (lambda: jobs.get_many(most))
    with suppress(ShutDown):
        while True:
            items = get()
            for producer, number, _ in items:
                ledger.note_got(producer, number)
            ledger.got[who] += len(items)
            if done:
                for producer, number, _ in items:
                    jobs.task_done()
                    ledger.note_done(producer, number)
