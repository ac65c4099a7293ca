"""An error that a task has raised keeps nothing, once no one has it any more."""

import gc
import weakref
from collections.abc import Iterator

import anyio
import anyio.lowlevel
import pytest

import aioipc
from aioipc.testing import InlinePool


class Thing:
    """Something that a weak reference can point to, and a worker can be sent."""


class ThingError(Exception):
    """What weak references can point to as well."""


def fail(_thing: Thing) -> None:
    raise ThingError


@pytest.fixture(params=["process", "thread", "inline", "inline without copies"])
def new_pool(request, fork):
    return {
        "process": lambda: aioipc.WorkerPool(1, mp_context=fork),
        "thread": lambda: aioipc.ThreadPool(1),
        "inline": InlinePool,
        "inline without copies": lambda: InlinePool(pickles=False),
    }[request.param]


@pytest.fixture
def without_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def by_run(pool: aioipc.abc.Pool, thing: Thing) -> None:
    await pool.run(fail, thing)


async def by_handle(pool: aioipc.abc.Pool, thing: Thing) -> None:
    await pool.submit(fail, thing)


async def by_map(pool: aioipc.abc.Pool, thing: Thing) -> None:
    await anext(pool.map(fail, [thing]))


async def by_loop(pool: aioipc.abc.Pool, thing: Thing) -> None:
    async for _ in pool.map(fail, [thing]):
        pass


@pytest.mark.usefixtures("without_collections")
@pytest.mark.parametrize("how", [by_run, by_handle, by_map, by_loop])
async def test_a_failed_call_is_in_no_reference_cycle(new_pool, how) -> None:
    async def references() -> list[weakref.ref[object]]:
        thing = Thing()
        try:
            await how(pool, thing)
        except Exception as error:
            return [weakref.ref(thing), weakref.ref(error)]
        raise AssertionError

    async with new_pool() as pool:
        kept = await references()
        assert await pool.run(abs, -1) == 1  # whatever brought it has gone on
        with anyio.fail_after(1):
            while any(reference() for reference in kept):
                await anyio.lowlevel.checkpoint()
