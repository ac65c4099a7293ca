"""Where a worker waits for its broker; an interrupt or a signal may end that.

Several threads may wait at once. One of them reads, for all; when it has what it waited
for, another one goes on.
"""

import math
import os
import pickle
import select
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from aioipc.broker.link import Link
from aioipc.wire.broker import Kind

__all__ = ["ask", "call", "deadline_in", "flush", "send", "wait"]

LOOK = 1e-4
"""Seconds that a worker looks for an answer, where the last one came sooner.

To be woken on a halted CPU takes 30 to 45 µs.
"""


def deadline_in(timeout: float | None) -> float:
    """Return the time at which so many seconds are over."""
    return math.inf if timeout is None else time.monotonic() + max(0.0, timeout)


def send(
    link: Link, kind: Kind, number: int, tag: int = 0, body: Sequence[bytes] = ()
) -> None:
    """Send a message, and wait until it is out."""
    if not link.send(kind, number, tag, body):
        flush(link)


def flush(link: Link) -> None:
    """Wait until all that was sent is out."""
    if link.flush():
        return
    descriptors = link.descriptors  # held, so that its number is that of the link
    room = select.poll()
    room.register(descriptors.fd, select.POLLOUT)
    while not link.flush():
        room.poll()


def wait(link: Link, ready: Callable[[], bool], deadline: float = math.inf) -> bool:
    """Wait until `ready` says so; False if it does not before the deadline.

    :raises BrokenPipeError: if the broker is gone
    """
    me = threading.get_ident()
    while not ready():
        try:
            bell = link.lead(me)
            if ready():
                break
            if bell is None:
                is_late = not _read(link, ready, deadline)
            else:
                left = max(0, deadline - time.monotonic())
                is_late = not bell.acquire(True, -1 if left == math.inf else left)
        finally:
            link.leave(me)
        if is_late:
            return ready()
    return True


def _read(link: Link, ready: Callable[[], bool], deadline: float) -> bool:
    since = time.perf_counter()
    if link.looks and _look(link, ready, since + LOOK):
        return True
    found = _sleep(link, ready, deadline)
    link.looks = link.may_look and time.perf_counter() - since < LOOK
    return found


def _look(link: Link, ready: Callable[[], bool], until: float) -> bool:
    """Look for what comes next, for a while, before sleeping until it comes."""
    while time.perf_counter() < until:
        os.sched_yield()
        link.read()
        if ready():
            return True
    return False


def _sleep(link: Link, ready: Callable[[], bool], deadline: float) -> bool:
    descriptors = link.descriptors  # held, so that its number is that of the link
    news = select.poll()
    news.register(descriptors.fd, select.POLLIN)
    while not ready():
        left = deadline - time.monotonic()
        if not news.poll(None if left == math.inf else max(0, math.ceil(left * 1000))):
            return False
        link.read()
    return True


def call(
    link: Link,
    number: int,
    method: str,
    *args: Any,
    timeout: float | None = None,
    on_interrupt: Callable[[int], None] | None = None,
) -> Any:
    """Have the broker call a method of an object, return what that returns.

    After `timeout` seconds the call is cancelled; its outcome is what came of it.

    :param on_interrupt: see `ask`
    """
    body = [pickle.dumps((method, args))]
    deadline = deadline_in(timeout)
    return ask(link, Kind.CALL, number, body, deadline, on_interrupt=on_interrupt)


def ask(
    link: Link,
    kind: Kind,
    number: int,
    body: Sequence[bytes],
    deadline: float,
    *,
    on_interrupt: Callable[[int], None] | None = None,
) -> Any:
    """Send a request, return what comes of it; it is cancelled at the deadline.

    If this is interrupted, what the request acquired meanwhile is given back.

    :param on_interrupt: what to do instead, with the number of the request; not called
        if that was never sent, or the link is broken
    """
    request = link.new_request()

    def is_answered() -> bool:
        return request in link.outcomes

    try:
        if not link.ask(kind, number, request, body):
            flush(link)
        if not wait(link, is_answered, deadline):
            send(link, Kind.CANCEL, number, request)
            wait(link, is_answered)
    except BaseException:
        if link.is_open and link.is_asked(request):
            if on_interrupt is None:
                link.abandon(number, request)
            else:
                on_interrupt(request)
        raise
    return link.take_outcome(request)
