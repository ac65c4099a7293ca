"""What runs in the workers of these tests: plain multiprocessing, no aioipc."""

import contextlib
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

FRAMEWORKS = ("anyio", "asyncio", "trio", "uvloop")


@dataclass
class Job:
    """An object of the user's own, with something of multiprocessing inside."""

    name: str
    tool: object

    def tell(self, report: Connection) -> None:
        report.send(shape_of(self))


class Gate:
    """Unpickled, it waits in its thread until it is opened; for one use at a time."""

    reached = threading.Event()
    opened = threading.Event()

    def __init__(self) -> None:
        Gate.reached.clear()
        Gate.opened.clear()

    def __reduce__(self):
        return Gate.pass_through, ()

    @staticmethod
    def pass_through() -> str:
        Gate.reached.set()
        Gate.opened.wait()
        return "through the gate"


def name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def shape_of(value):
    """The same lists, tuples and dicts, with the types of what is in them."""
    match value:
        case list() | tuple():
            return type(value)(shape_of(item) for item in value)
        case dict():
            return {key: shape_of(item) for key, item in value.items()}
        case Job():
            return shape_of(vars(value))
        case _:
            return name_of(type(value))


def frameworks() -> list[str]:
    return sorted({name.partition(".")[0] for name in sys.modules} & {*FRAMEWORKS})


# Handed over


def tell_shape(report: Connection, *args, **kwargs) -> None:
    report.send((shape_of(args), shape_of(kwargs)))


def tell_imports(report: Connection, *objects) -> None:
    kinds = [name_of(type(obj)) for obj in objects]
    report.send((kinds, frameworks()))


def tell_blocking_and_echo(report: Connection, connection: Connection) -> None:
    report.send(os.get_blocking(connection.fileno()))
    connection.send(("echo", connection.recv()))


def count_to(connection: Connection, end: int, name: int) -> None:
    for n in range(end):
        connection.send((name, n))
    connection.close()


def double(report: Connection, queue) -> None:
    """Get one and report it, then put its double on the same queue."""
    item = queue.get()
    report.send(item)
    if hasattr(queue, "task_done"):
        queue.task_done()
    report.recv()
    queue.put(item * 2)


# Lives and deaths of a process


def leave(code: int) -> None:
    sys.exit(code)


def leave_quietly(code: int) -> None:
    os._exit(code)


def fail() -> None:
    raise ValueError("the worker fails")


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def end_with(connection: Connection) -> None:
    """Live until the other end is closed, or sends."""
    with contextlib.suppress(EOFError):
        connection.recv()


def stay(started: Connection) -> None:
    """Say so, and live until a signal comes."""
    started.send("started")
    while True:
        time.sleep(60)


def stay_whatever_is_asked(started: Connection) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    stay(started)


def leave_a_child_behind(report: Connection, grandchild_lives_on: Connection) -> None:
    """End at once, with a child that holds all our descriptors but `report`."""
    if pid := os.fork():
        report.send(pid)
        return
    report.close()
    end_with(grandchild_lives_on)
    os._exit(0)
