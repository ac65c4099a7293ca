"""A worker's main loop.

Everything that it says goes out at once, one message for each task: what a worker has
finished is not lost with it.
"""

import pickle
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any, NamedTuple

from aioipc.wire.tasks import NO_TASK, Kind, decode_batch, decode_slots
from aioipc.worker.calls import Calls
from aioipc.worker.channel import Channel, Endpoints
from aioipc.worker.exchange import Exchange
from aioipc.worker.failures import describe
from aioipc.worker.interrupts import Interrupts, die_with
from aioipc.worker.isolation import (
    allow_children,
    drop_descriptors,
    handle_signals,
    leave_fork_server,
    own_streams,
    resident,
)

__all__ = ["Setup", "serve"]


Action = tuple[Callable[..., object], tuple[Any, ...]]


class Setup(NamedTuple):
    """What a worker does before its first task and after its last.

    :ivar cookie: the secret that messages begin with
    :ivar initializer: ``(function, args)``, or None
    :ivar finalizer: likewise
    :ivar is_fork: whether the worker was forked from the coordinator
    :ivar max_rss: bytes of `resident` memory above which it asks to be replaced
    :ivar may_look: see `Channel`
    :ivar max_shared_memory: bytes, for large buffers of results
    """

    cookie: bytes
    initializer: Action | None = None
    finalizer: Action | None = None
    is_fork: bool = False
    max_rss: int | None = None
    may_look: bool = False
    max_shared_memory: int = 0


def serve(endpoints: Endpoints, setup: Setup) -> None:
    """Work for a pool until it has no more to do."""
    die_with(endpoints.lifeline)
    handle_signals(endpoints.crash_log)
    allow_children()
    if setup.is_fork:
        drop_descriptors(endpoints)
        own_streams()
    else:
        leave_fork_server()
    channel = Channel(endpoints, setup.cookie, may_look=setup.may_look)
    exchange = Exchange(
        endpoints.arguments,
        endpoints.results,
        setup.max_shared_memory,
        channel.released,
    )
    calls = Calls(Interrupts(endpoints.interrupts), exchange)
    if not _call(setup.initializer, channel):
        return
    channel.send(Kind.READY)
    for kind, number, _, body in channel:
        if kind == Kind.BATCH:
            _work(calls, channel, body, setup.max_rss)
        elif kind == Kind.FUNCTION:
            calls.learn(number, body)
        elif kind == Kind.RELEASED:
            exchange.let_go(decode_slots(body))
        elif kind == Kind.TRIM:
            exchange.trim()
            channel.tell_released()
        elif kind == Kind.LIMIT:
            exchange.limit(number)
        else:
            break
    _call(setup.finalizer, channel)


def _work(calls: Calls, channel: Channel, batch: bytes, max_rss: int | None) -> None:
    """Do the tasks of a batch that the pool does not take back."""
    began = perf_counter_ns()
    tasks = decode_batch(batch)
    last, too_large = tasks[-1][0], False
    for number, function, arguments in tasks:
        if not channel.take_token():
            break
        kind, value = calls.make(number, function, arguments)
        if number == last:
            too_large = max_rss is not None and resident() > max_rss
            if not too_large:
                channel.send(kind, number, value, took=perf_counter_ns() - began)
                return
        channel.send(kind, number, value)
    why = b"too large" if too_large else b""
    channel.send(Kind.DONE, body=why, took=perf_counter_ns() - began)


def _call(action: Action | None, channel: Channel) -> bool:
    """Call an initializer or finalizer; if it fails, say so, and return False."""
    if action is None:
        return True
    function, args = action
    try:
        function(*args)
    except BaseException as error:  # noqa: BLE001 - whatever the user's function raises
        failure = pickle.dumps(describe(error, "run"))
        channel.send(Kind.ERROR, NO_TASK, failure)
        return False
    return True
