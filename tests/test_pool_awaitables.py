"""A task gets the plain object for an awaitable, in each pool and at each place."""

import pytest

import aioipc
from aioipc.testing import InlinePool

ready: list[str] = []
"""What the initializer was called with, in the worker's process."""


def kind(*args: object, **kwargs: object) -> str:
    (it,) = (it for it in (*args, *kwargs.values()) if it is not None)
    return type(it).__name__


def initialize(it: object, inside: list[object]) -> None:
    ready[:] = [type(it).__name__, type(inside[0]).__name__]


def seen() -> list[str]:
    return ready


@pytest.fixture(params=["process", "thread", "inline", "inline without copies"])
def new_pool(request, fork):
    return {
        "process": lambda **how: aioipc.WorkerPool(1, mp_context=fork, **how),
        "thread": lambda **how: aioipc.ThreadPool(1, **how),
        "inline": InlinePool,
        "inline without copies": lambda **how: InlinePool(pickles=False, **how),
    }[request.param]


PLACES = {
    "argument": lambda pool, it: pool.run(kind, it),
    "keyword": lambda pool, it: pool.run(kind, it=it),
    "of a handle": lambda pool, it: pool.submit(kind, None, it),
    "item": lambda pool, it: anext(pool.map(kind, [it])),
    "column": lambda pool, it: anext(pool.map(kind, [None], [it])),
    "row": lambda pool, it: anext(pool.starmap(kind, [(None, it)])),
    "list for a row": lambda pool, it: anext(pool.starmap(kind, [[it]])),
    "dictionary for a row": lambda pool, it: anext(pool.starmap(kind, [{it: 1}])),
}


@pytest.mark.parametrize("place", PLACES)
async def test_a_task_gets_the_plain_object(new_pool, place) -> None:
    async with aioipc.Broker() as broker, new_pool() as pool:
        assert await PLACES[place](pool, broker.Queue()) == "RemoteQueue"


async def test_an_initializer_gets_the_plain_object_wherever_it_is(new_pool) -> None:
    async with aioipc.Broker() as broker:
        queue = broker.Queue()
        async with new_pool(initializer=initialize, initargs=(queue, [queue])) as pool:
            assert await pool.run(seen) == ["RemoteQueue"] * 2
