"""After how many kills does a `multiprocessing.Queue` hang?

The same as in `survival`: two processes put, two get, and every second one of them is
killed. Yet who dies in `get` keeps the queue's lock, and who dies while it puts keeps
the other one, or has sent half a message. A queue has hung when nothing was got from it
for a while, though all its users live.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.isolation import fork
from benchmarks.ledger import (
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

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

HUNG = 3.0
"""Seconds without an item, after which a queue is given up."""


@dataclass
class Ends:
    """How queues fared.

    :ivar kills: users that were killed, of each queue
    :ivar hung: queues that did
    :ivar lost: items that `put` had returned from, and later ones were got
    """

    kills: list[int] = field(default_factory=list[int])
    hung: int = 0
    lost: int = 0

    def __str__(self) -> str:
        return (
            f"  {self.hung} of {len(self.kills)} hung; killed in each: "
            f"{', '.join(map(str, self.kills))}\n"
            f"  {self.lost:,} items gone that put() had returned from"
        )


def until_it_hangs(seconds: float) -> Ends:
    """Kill users of one queue after the other, each until it hangs."""
    ends, rng, began = Ends(), random.Random(2), time.monotonic()
    while not ends.kills or time.monotonic() < began + seconds:
        _kill_until_it_hangs(ends, rng, max(began + seconds, time.monotonic() + HUNG))
    return ends


def _kill_until_it_hangs(ends: Ends, rng: random.Random, end: float) -> None:
    jobs, ledger = fork.Queue(), Ledger()
    users = {user: _start(user, jobs, ledger) for user in EVERYONE}
    kills, is_hung = 0, False
    try:
        while time.monotonic() < end and not is_hung:
            time.sleep(EVERY * (0.9 + 0.2 * rng.random()))
            user = rng.choice(EVERYONE)
            users[user].kill()
            users[user].join()
            kills += 1
            users[user] = _start(user, jobs, ledger, _go_on(user, ledger))
            is_hung = _is_hung(ledger)
    finally:
        for process in users.values():
            process.kill()
            process.join()
        jobs.close()
    ends.kills.append(kills)
    ends.hung += is_hung
    for producer in range(USERS):
        got = ledger.times_got(producer, ledger.put[producer]).rstrip(b"\0")
        ends.lost += got.count(0)


def _go_on(user: User, ledger: Ledger) -> int:
    """Return the number that a new producer goes on with.

    What the last one has put is in the pipe, or was in its memory and is gone. No one
    can tell, so nobody waits for it.
    """
    role, number = user
    if role == PRODUCER:
        ledger.reached[number] = ledger.put[number]
    return ledger.put[number]


def _start(user: User, jobs: Any, ledger: Ledger, first: int = 0) -> BaseProcess:
    role, number = user
    if role == PRODUCER:
        process = fork.Process(target=produce, args=(jobs, ledger, number, first, 1))
    else:
        args = (jobs, ledger, number, 1)
        process = fork.Process(target=consume, args=args, kwargs={"done": False})
    process.start()
    return process


def _is_hung(ledger: Ledger) -> bool:
    """Whether nothing is got any more."""
    passed, deadline = ledger.passed_on(), time.monotonic() + HUNG
    while ledger.passed_on() == passed:
        if time.monotonic() > deadline:
            return True
        time.sleep(LOOK)
    return False
