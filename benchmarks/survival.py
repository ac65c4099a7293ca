"""Does a queue outlive those who use it? ``python -m benchmarks.survival --help``.

Two processes put numbered items into a queue, as fast as two others get them. Every
second one of the four is killed by SIGKILL, and another takes its place. In the end
every item has to be accounted for.

What is counted. Each user notes in shared memory what it has done (`ledger`). A new
producer goes on after the last item that has arrived; the broker knows which that is,
and its arrivals are checked as they come: each number is the last one's successor.

- A gap is an item that never arrived though a later one did, or though `put` had
  returned; or that arrived and that no consumer ever got.
- With ``ack="manual"`` an item is done when `task_done` has returned, or when the
  broker has heard of it. An item is doubled if it is done twice. What a killed
  consumer had got, and not called `task_done` for, is delivered again: that is no
  fault, but counted, and at most one call's worth for each kill.
- With ``ack="auto"`` what `get` has given to a consumer is the consumer's. An item is
  doubled if it is got twice. What it had taken, and could not note any more, is gone
  with it: counted as in hand, and at most one call's worth for each kill.

A `multiprocessing.Queue` goes through the same, again and again: see `hangs`.
"""

from __future__ import annotations

import random
import sys
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import anyio
import click

import aioipc
from aioipc.broker.shelves import Item, Line, Shelf
from aioipc.wire.pickles import loads
from benchmarks.hangs import until_it_hangs
from benchmarks.isolation import fork
from benchmarks.ledger import (
    CALLS,
    CONSUMER,
    EVERY,
    EVERYONE,
    LOOK,
    PRODUCER,
    USERS,
    Ledger,
    User,
    consume,
    produce,
)
from benchmarks.loops import LOOPS, run_on

if TYPE_CHECKING:
    from aioipc.broker.broker import Ack

ACKS: tuple[Ack, ...] = ("manual", "auto")

PATIENCE = 30.0
"""Seconds after which what should happen at once is said to hang."""


class Arrivals(Line):
    """A queue's items, of which each is checked when it arrives.

    :ivar next: by producer, the number that comes next
    :ivar missing: numbers that were left out
    :ivar repeated: numbers that came again
    """

    def __init__(self) -> None:
        super().__init__()
        self.next = [0] * USERS
        self.missing = self.repeated = 0

    def push(self, item: Item, *, left: bool = False) -> None:
        producer, number, _ = loads(item.pickled or b"")
        ahead = number - self.next[producer]
        self.missing += max(0, ahead)
        self.repeated += ahead < 0
        self.next[producer] = max(number + 1, self.next[producer])
        super().push(item, left=left)

    def push_all(self, items: list[Item], *, left: bool = False) -> None:
        Shelf.push_all(self, items, left=left)  # one by one


@dataclass
class Findings:
    """What came out of a run.

    :ivar items: that arrived
    :ivar killed: by role
    :ivar gaps: items that are missing
    :ivar doubled: items that came, or were done, twice
    :ivar again: items delivered again, from the hands of killed consumers
    :ivar in_hand: items that were gone with killed consumers
    :ivar most_in_hand: that could be in the hands of those
    :ivar open: items of which the broker does not know that they are done
    :ivar failed: users that ended without being killed
    :ivar stall: the longest time after a kill in which no consumer got anything, or
        rather between two looks after which something had been got
    """

    items: int = 0
    seconds: float = 0.0
    killed: Counter[str] = field(default_factory=Counter[str])
    gaps: int = 0
    doubled: int = 0
    again: int = 0
    in_hand: int = 0
    most_in_hand: int = 0
    open: int = 0
    failed: int = 0
    stall: float = 0.0

    @property
    def is_right(self) -> bool:
        """Whether nothing was lost or doubled."""
        within = max(self.again, self.in_hand) <= self.most_in_hand
        return within and not (self.gaps or self.doubled or self.open or self.failed)

    def __str__(self) -> str:
        kills = " and ".join(f"{self.killed[it]} {it}s" for it in (PRODUCER, CONSUMER))
        return (
            f"  {self.items:,} items in {self.seconds:.1f} s, "
            f"{self.items / self.seconds:,.0f} a second; {kills} killed\n"
            f"  {self.gaps} gaps, {self.doubled} doubled, {self.open} not done, "
            f"{self.failed} users failed\n"
            f"  in the hands of killed consumers: {self.again} delivered again, "
            f"{self.in_hand} gone (at most {self.most_in_hand})\n"
            f"  the longest stall after a kill: {self.stall * 1e3:.0f} ms at most"
        )


class Survival:
    """One run of a broker's queue.

    :param seconds: that it takes at least
    :param items: that pass through it at least
    """

    def __init__(self, ack: Ack, seconds: float, items: int) -> None:
        self.ack: Ack = ack
        self.seconds = seconds
        self.least = items
        self.found = Findings()
        self.ledger = Ledger()
        self.arrivals = Arrivals()
        self.users: dict[User, aioipc.AsyncProcess] = {}
        self.rng = random.Random(1)

    async def run(self) -> Findings:
        async with aioipc.Broker() as self.broker:
            self.jobs = self.broker.Queue(ack=self.ack)
            self.jobs._store.shelf = self.arrivals
            try:
                await self._run()
            finally:
                for process in self.users.values():
                    process.kill()
                with anyio.move_on_after(PATIENCE, shield=True):
                    for process in self.users.values():
                        await process.join()
        self._account()
        return self.found

    async def _run(self) -> None:
        for user in EVERYONE:
            await self._start(user)
        began = time.monotonic()
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch)
            while (
                time.monotonic() < began + self.seconds
                or sum(self.arrivals.next) < self.least
            ):
                await anyio.sleep(EVERY * (0.9 + 0.2 * self.rng.random()))
                await self._replace(self.rng.choice(EVERYONE))
            group.cancel_scope.cancel()
        self.found.seconds = time.monotonic() - began
        await self._finish()

    async def _start(self, user: User) -> None:
        role, number = user
        jobs, ledger, most = self.jobs, self.ledger, CALLS[number]
        if role == PRODUCER:
            first = self.arrivals.next[number]
            target, args = produce, (jobs, ledger, number, first, most)
        else:
            target = partial(consume, done=self.ack == "manual")
            args = (jobs, ledger, number, most)
        process = aioipc.Process(target=target, args=args, context=fork)
        await process.start()
        self.users[user] = process

    async def _replace(self, user: User) -> None:
        """Kill a user; start another as soon as the broker has seen the end of it."""
        role, number = user
        process = self.users[user]
        self.found.failed += not process.is_alive()
        process.kill()
        await self._see_the_end_of(process)
        self.found.killed[role] += 1
        if role == CONSUMER:
            self.found.most_in_hand += CALLS[number]
        else:
            self._compare(number)
        await self._start(user)

    async def _see_the_end_of(self, process: aioipc.AsyncProcess) -> None:
        """Wait until a user is gone, and the broker has had all that it sent."""
        with anyio.fail_after(PATIENCE):
            await process.join()
            while process.pid in self.broker.statistics().workers:  # noqa: ASYNC110
                await anyio.sleep(LOOK)

    def _compare(self, producer: int) -> None:
        """What a producer's `put` has returned from must have arrived."""
        ledger, arrived = self.ledger, self.arrivals.next[producer]
        self.found.gaps += max(0, ledger.put[producer] - arrived)
        ledger.put[producer] = arrived

    async def _watch(self) -> None:
        """Note how long nothing is got.

        :raises TimeoutError: if that has lasted too long
        """
        passed, since = self.ledger.passed_on(), time.monotonic()
        while True:
            await anyio.sleep(LOOK)
            now, so_far = time.monotonic(), self.ledger.passed_on()
            if self.found.killed:
                self.found.stall = max(self.found.stall, now - since)
            if so_far != passed:
                passed, since = so_far, now
            elif now - since > PATIENCE:
                raise TimeoutError(f"no item for {PATIENCE:.0f} s: {self.jobs}")

    async def _finish(self) -> None:
        """Let everyone come to an end: nobody may hang."""
        self.ledger.end()
        for number in range(USERS):
            await self._see_the_end_of(self.users[PRODUCER, number])
            self._compare(number)
        self.jobs.shutdown()
        for number in range(USERS):
            await self._see_the_end_of(self.users[CONSUMER, number])
        self.found.open = self.jobs.statistics().unfinished
        self.found.failed += sum(it.exitcode != 0 for it in self.users.values())

    def _account(self) -> None:
        found, arrivals = self.found, self.arrivals
        found.items = sum(arrivals.next)
        found.gaps += arrivals.missing
        found.doubled += arrivals.repeated
        for producer, count in enumerate(arrivals.next):
            got = Counter(self.ledger.times_got(producer, count))
            repeats = sum((times - 1) * n for times, n in got.items() if times > 1)
            if self.ack == "manual":
                done = self.ledger.times_done(producer, count)
                found.gaps += got[0]
                found.doubled += count - done.count(0) - done.count(1)
                found.again += repeats
            else:
                found.in_hand += got[0]
                found.doubled += repeats


@click.command()
@click.option("--seconds", default=60.0, show_default=True, help="At least, of each.")
@click.option("--items", default=1_000_000, show_default=True, help="At least.")
@click.option("--only", type=click.Choice([*ACKS, "multiprocessing"]))
@click.option("--loop", type=click.Choice([*LOOPS]), default="asyncio")
def main(seconds: float, items: int, only: str | None, loop: str) -> None:
    """Kill a user of a queue every second."""
    # Python 3.12 warns of forks in a program with threads.
    warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
    is_right = True
    for ack in ACKS:
        if only in {None, ack}:
            print(f'aioipc.Broker, ack="{ack}", on {loop}')
            found = run_on(loop, Survival(ack, seconds, items).run)
            print(found, flush=True)
            is_right &= found.is_right
    if only in {None, "multiprocessing"}:
        print("multiprocessing.Queue")
        print(until_it_hangs(seconds))
    sys.exit(int(not is_right))


if __name__ == "__main__":
    main()
