"""What the tests of `DaskPool` have its workers do."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np

from aioipc.testing.gates import Address, wait_at


def pid() -> int:
    return os.getpid()


def square(n: int) -> int:
    return n * n


def die(_n: int = 0) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_with(_values: Any, path: str) -> None:
    """Note that it was called, and die."""
    with Path(path).open("a") as file:
        file.write("x")
    die()


def set_first(values: Any, value: int) -> int:
    """Change an argument; return what was there before."""
    before = int(values[0])
    values[0] = value
    return before


def total(values: Any, address: Address | None = None) -> int:
    """Return a sum; at a gate if there is one."""
    if address is not None:
        wait_at(address, str(os.getpid()))
    return int(np.sum(values))


WORDS: list[str] = []


def remember(word: str) -> None:
    WORDS.append(word)


def words() -> list[str]:
    return WORDS


def refuse(word: str) -> None:
    raise LookupError(word)


def refuse_if_there_was_one(path: str) -> None:
    """Raise in all processes but the first."""
    Path(path).touch(exist_ok=False)


def same(value: Any) -> Any:
    return value


class NotThere:
    """What can be pickled, but not loaded in a worker."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _not_there, (os.getpid(),)


def _not_there(home: int) -> "NotThere":
    if os.getpid() != home:
        raise LookupError("nowhere to be found")
    return NotThere()


def put_all(queue: Any, items: list[Any]) -> None:
    for item in items:
        queue.put(item)


def get_one(queue: Any) -> Any:
    return queue.get(timeout=20)


def hold(lock: Any, inside: Any, address: Address) -> None:
    with lock:
        inside.set()
        wait_at(address)


def may_enter(lock: Any) -> bool:
    """Acquire something, if that is possible at once, and release it."""
    if not lock.acquire(timeout=0.01):
        return False
    lock.release()
    return True


def enter(lock: Any) -> bool:
    with lock:
        return True


def wait_for(event: Any) -> bool:
    return bool(event.wait(timeout=20))


def held(dask_worker: Any) -> int:
    """Return how many tasks a worker has."""
    return len(dask_worker.state.tasks)


def may_enter_or_has(shared: Any) -> int:
    """Use a lock, or a queue, in any way."""
    return may_enter(shared) if hasattr(shared, "acquire") else shared.qsize()
