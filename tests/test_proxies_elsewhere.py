"""Proxies whose tasks wait in a loop that is over, or in the parent of a fork."""

import asyncio

import anyio
from anyio.to_thread import run_sync

import aioipc


def test_what_waited_in_a_loop_that_was_closed_is_forgotten(plain_manager) -> None:
    queue = aioipc.wrap(plain_manager.Queue())
    event = aioipc.wrap(plain_manager.Event())

    async def wait() -> None:
        await asyncio.gather(queue.get(), queue.get(), event.wait())

    async def go_on() -> None:
        with anyio.fail_after(10):
            await event.set()
            await event.wait()
            for n in range(3):
                await queue.put(n)
                assert await queue.get() == n

    loop = asyncio.new_event_loop()
    waiting = loop.create_task(wait())
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    asyncio.run(go_on())
    assert not waiting.done()
    queue.close()
    event.close()


async def test_what_waits_in_a_parent_is_forgotten_in_a_fork(plain_manager, fork):
    queue = aioipc.wrap(await run_sync(plain_manager.Queue))
    event = aioipc.wrap(await run_sync(plain_manager.Event))
    rlock = aioipc.wrap(await run_sync(plain_manager.RLock))

    async def go_on() -> None:
        with anyio.fail_after(10):
            assert not await rlock.acquire(False)
            await event.wait()
            assert await queue.get() == "item"

    async with anyio.create_task_group() as tasks:
        for call in (rlock.acquire, queue.get, queue.get, event.wait):
            tasks.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        async with aioipc.Process(
            target=anyio.run, args=(go_on,), context=fork
        ) as child:
            for _ in range(3):  # the parent may have two
                await queue.put("item")
            await event.set()
            assert await child.join() == 0
        tasks.cancel_scope.cancel()
