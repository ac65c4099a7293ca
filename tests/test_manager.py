"""AsyncManager: its process, from start to end, and what it is asked for."""

import asyncio
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.managers import (
    BaseManager,
    BaseProxy,
    SharedMemoryManager,
    SyncManager,
)
from multiprocessing.shared_memory import SharedMemory

import anyio
import anyio.lowlevel
import bridge_peers as peers
import psutil
import pytest
from anyio.to_thread import run_sync

import aioipc
from aioipc.transport.threads import run_in_thread


async def in_a_thread(function, *args):
    """Call in a thread that ends at once, and with it its connection to a manager."""
    job = run_in_thread(lambda: function(*args), "test")
    await job.wait()
    return job.result()


@pytest.fixture
async def manager(fork):
    async with aioipc.Manager(context=fork) as manager:
        yield manager


def count_descriptors() -> int:
    return psutil.Process().num_fds()


def count_objects(manager) -> int:
    return manager.sync._number_of_objects()


# Its process


async def test_it_starts_and_ends_with_its_block(context) -> None:
    manager = aioipc.Manager(context=context)
    assert repr(manager) == "<AsyncManager SyncManager initial at None>"
    async with manager as same:
        assert same is manager
        process = manager.sync._process
        assert process.is_alive()
        assert repr(manager).startswith("<AsyncManager SyncManager started at ")
        shared = await manager.dict(a=1)
        assert await shared.copy() == {"a": 1}
        pid = process.pid
    assert not psutil.pid_exists(pid)
    assert repr(manager).startswith("<AsyncManager SyncManager shutdown at ")
    with pytest.raises(aioipc.ClosedResourceError):
        await manager.dict()


async def test_it_is_shut_down_twice_and_at_once(fork) -> None:
    manager = aioipc.Manager(context=fork)
    await manager.shutdown()
    manager = aioipc.Manager(context=fork)
    await manager.start()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(manager.shutdown)
        tasks.start_soon(manager.shutdown)
    await manager.shutdown()


async def test_a_manager_that_is_not_started(fork) -> None:
    manager = aioipc.Manager(context=fork)
    with pytest.raises(multiprocessing.ProcessError, match="not been started"):
        await manager.list()
    await manager.start()
    with pytest.raises(multiprocessing.ProcessError, match="Already started"):
        await manager.start()
    await manager.shutdown()
    with pytest.raises(multiprocessing.ProcessError, match="has shut down"):
        await manager.start()


async def test_an_initializer_runs_in_its_process(fork) -> None:
    manager = aioipc.Manager(context=fork)
    report, theirs = aioipc.Pipe(context=fork)
    async with report:
        await manager.start(peers.tell_pid, (theirs,))
        theirs.close()
        assert await report.recv() == manager.sync._process.pid
        await manager.shutdown()


async def test_an_initializer_that_fails(context) -> None:
    manager = aioipc.Manager(context=context)
    with pytest.raises(aioipc.BrokenResourceError, match="before it was ready"):
        await manager.start(os._exit, (3,))
    assert manager.sync._process is None


async def test_a_start_that_is_cancelled_leaves_nothing(context) -> None:
    manager = aioipc.Manager(context=context)
    with anyio.move_on_after(0.01) as scope:
        await manager.start(peers.pause, (0.1,))
    assert scope.cancelled_caught
    assert manager.sync._process is None


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_asyncios_own_cancel_of_a_start_leaves_nothing(fork) -> None:
    manager = aioipc.Manager(context=fork)
    starting = asyncio.create_task(manager.start(peers.pause, (0.1,)))
    await asyncio.sleep(0)
    for _ in range(3):
        starting.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await starting


async def test_a_cancelled_block_still_ends_its_process(fork) -> None:
    with anyio.CancelScope() as scope:
        async with aioipc.Manager(context=fork) as manager:
            process = manager.sync._process
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert manager.sync._process is None
    with pytest.raises(ValueError, match="closed"):
        process.is_alive()


async def test_a_manager_that_stands_still_is_killed(fork, monkeypatch) -> None:
    monkeypatch.setattr("aioipc.bridge.manager.GRACE", 0.1)
    async with aioipc.Manager(context=fork) as manager:
        os.kill(manager.sync._process.pid, signal.SIGSTOP)
    assert manager.sync._process is None


async def test_a_killed_manager_breaks_what_waits_and_what_comes(manager) -> None:
    pid = manager.sync._process.pid
    lock, event = await manager.Lock(), await manager.Event()
    condition, barrier = await manager.Condition(), await manager.Barrier(2)
    rlock, queue = await manager.RLock(), await manager.Queue()
    semaphore, shared = await manager.Semaphore(0), await manager.dict()
    await lock.acquire()

    async def wait_at_condition() -> None:
        await condition.acquire()
        await condition.wait()

    async def held_by_another() -> None:
        await rlock.acquire()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(held_by_another)
    calls = (
        *(lock.acquire, lock.acquire, event.wait, event.wait, barrier.wait),
        *(wait_at_condition, rlock.acquire, semaphore.acquire, queue.get),
    )
    broken = []

    async def breaks(call) -> None:
        with pytest.raises(aioipc.BrokenResourceError):
            await call()
        broken.append(call)

    async with anyio.create_task_group() as tasks:
        for call in calls:
            tasks.start_soon(breaks, call)
        await anyio.wait_all_tasks_blocked()
        os.kill(pid, signal.SIGKILL)
    assert len(broken) == len(calls)
    with pytest.raises(aioipc.BrokenResourceError):
        await shared.get("key")
    with pytest.raises(aioipc.BrokenResourceError):
        await manager.list()


async def test_a_shutdown_breaks_what_waits(manager) -> None:
    event = await manager.Event()
    async with anyio.create_task_group() as tasks:

        async def wait() -> None:
            with pytest.raises(aioipc.BrokenResourceError):
                await event.wait()

        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        await manager.shutdown()


# Others' managers


async def test_a_plain_manager_is_wrapped(fork) -> None:
    plain = await run_sync(fork.Manager)
    async with aioipc.wrap(plain) as manager:
        assert manager.sync is plain
        shared = await manager.list([1])
        assert await shared[0] == 1
    assert plain._process is None


async def test_two_programs_one_has_the_objects(fork, tmp_path) -> None:
    address, key = str(tmp_path / "manager"), b"a key"
    async with aioipc.wrap(Shop(address, key, ctx=fork)) as theirs:
        assert theirs.address == address
        ours = aioipc.wrap(Shop(address, key))
        await ours.connect()
        stock = await ours.create("get_stock")
        assert type(stock) is aioipc.AsyncDictProxy
        await stock.set("apples", 3)
        assert await (await theirs.create("get_stock"))["apples"] == 3
        await ours.shutdown()
        assert await theirs.create("Adder", 1)
        with pytest.raises(multiprocessing.AuthenticationError):
            await aioipc.wrap(Shop(address, b"a wrong key")).connect()
    with pytest.raises(FileNotFoundError):
        await aioipc.wrap(Shop(address, key)).connect()


async def test_a_manager_that_follows_another_at_its_address(fork, tmp_path) -> None:
    path = str(tmp_path / "manager")
    async with aioipc.Manager(context=fork, address=path) as first:
        old = [await first.list() for _ in range(8)]
        for proxy in old:
            await proxy.append(1)
        first.sync._process.kill()
        await run_sync(first.sync._process.join)
        await anyio.Path(path).unlink()
        async with aioipc.Manager(context=fork, address=path) as second:
            for _ in range(8):
                new = await second.list()
                await new.append(2)
                assert await new.copy() == [2]


async def test_two_that_are_connected_to_one_manager(manager, fork) -> None:
    first = aioipc.Manager(context=fork, address=manager.address)
    second = aioipc.Manager(context=fork, address=manager.address)
    await first.connect()
    await second.connect()
    await first.list()
    shared = await second.list([1])
    assert await shared.len() == 1
    connections = await in_a_thread(count_descriptors)
    await first.shutdown()
    assert await shared.len() == 1
    assert await in_a_thread(count_descriptors) == connections


async def test_a_remote_manager_over_tcp(fork) -> None:
    server = aioipc.Manager(context=fork, address=("127.0.0.1", 0), authkey=b"key")
    async with server:
        client = aioipc.Manager(address=server.address, authkey=b"key")
        await client.connect()
        shared = await client.Value("i", 1)
        await shared.set(2)
        assert await shared.get() == 2


# Types of one's own


class Adder:
    def __init__(self, start: int) -> None:
        self.sum = start

    def add(self, n: int, *, times: int = 1) -> int:
        self.sum += n * times
        return self.sum

    def fail(self) -> None:
        raise OSError(7, "of the referent")

    def lambda_(self):
        return lambda: None

    def _hidden(self) -> str:
        return "hidden"

    def count_down(self):
        yield from range(self.sum, 0, -1)


class AdderProxy(BaseProxy):
    _exposed_ = ("add", "_hidden")

    def add_twice(self, n: int) -> int:
        self._callmethod("add", (n,))
        return self._callmethod("add", (n,))


stock: dict[str, int] = {}


class Shop(SyncManager):
    pass


Shop.register("Adder", Adder)
Shop.register("PlainAdder", Adder, AdderProxy)
Shop.register("Counter", Adder, method_to_typeid={"count_down": "Iterator"})
Shop.register("get_stock", lambda: stock, multiprocessing.managers.DictProxy)


@pytest.fixture
async def shop(fork):
    async with aioipc.wrap(Shop(ctx=fork)) as shop:
        yield shop


async def test_registered_types(shop) -> None:
    adder = await shop.create("Adder", start=10)
    assert type(adder) is aioipc.AsyncProxy
    assert await adder.call("add", 5) == 15
    assert await adder.call("add", 1, times=2) == 17
    with pytest.raises(OSError, match="of the referent") as caught:
        await adder.call("fail")
    assert type(caught.value) is OSError
    with pytest.raises(multiprocessing.managers.RemoteError, match="hidden"):
        await adder.call("_hidden")
    with pytest.raises(multiprocessing.managers.RemoteError, match="Unserializable"):
        await adder.call("lambda_")
    assert await adder.call("add", 0) == 17
    with pytest.raises(AttributeError, match="no 'Nonsense'"):
        await shop.create("Nonsense")
    with pytest.raises(multiprocessing.managers.RemoteError, match="TypeError"):
        await shop.create("Adder")


async def test_a_proxy_type_of_ones_own(shop) -> None:
    adder = await shop.create("PlainAdder", 1)
    assert await adder.call("add_twice", 2) == 5
    assert await adder.call("_hidden") == "hidden"
    with pytest.raises(multiprocessing.managers.RemoteError):
        await adder.call("fail")


async def test_iterators(shop) -> None:
    counter = await shop.create("Counter", 3)
    iterator = await counter.call("count_down")
    assert type(iterator) is aioipc.AsyncIteratorProxy
    assert [n async for n in iterator] == [3, 2, 1]
    with pytest.raises(StopAsyncIteration):
        await anext(iterator)


async def test_a_cancelled_step_of_an_iterator_takes_nothing(shop) -> None:
    counter = await shop.create("Counter", 300)
    iterator = await counter.call("count_down")
    got: list[int] = []
    while len(got) < 300:
        with anyio.move_on_after(0.0002):
            got.append(await anext(iterator))
    assert got == list(range(300, 0, -1))


async def test_a_manager_without_the_usual_types(fork) -> None:
    class Bare(BaseManager):
        pass

    Bare.register("Adder", Adder)
    async with aioipc.wrap(Bare(ctx=fork)) as manager:
        assert await (await manager.create("Adder", 1)).call("add", 1) == 2
        with pytest.raises(AttributeError, match="no 'dict'"):
            await manager.dict()


async def test_a_shared_memory_manager(fork) -> None:
    plain = await in_a_thread(lambda: SharedMemoryManager(ctx=fork))
    async with aioipc.wrap(plain) as manager:
        memory = await manager.SharedMemory(100)
        memory.buf[:5] = b"hello"
        assert (await manager.ShareableList([1, "two"]))[1] == "two"
        memory.close()
        with pytest.raises(AttributeError, match="no 'list'"):
            await manager.list()
    with pytest.raises(FileNotFoundError):
        SharedMemory(memory.name)


async def test_other_managers_have_no_shared_memory(manager) -> None:
    with pytest.raises(AttributeError, match="no 'SharedMemory'"):
        await manager.SharedMemory(100)


async def test_a_pool_in_a_manager(manager) -> None:
    pool = await manager.Pool(1)
    assert await pool.call("map", abs, [-1, 2]) == [1, 2]
    result = await pool.call("apply_async", abs, (-3,))
    assert await result.call("get") == 3
    items = await pool.call("imap", abs, [-1, 2])
    assert [n async for n in items] == [1, 2]
    await pool.call("terminate")
    await pool.call("join")


# What is given up


async def test_objects_that_no_one_has_are_given_up_in_a_thread(manager) -> None:
    first, second = await manager.dict(), await manager.list()
    await second.append(1)
    assert await in_a_thread(count_objects, manager) == 2
    first.close()
    first.close()
    with pytest.raises(aioipc.ClosedResourceError, match="AsyncDictProxy is closed"):
        await first.get("key")
    del second
    gc.collect()
    await until_objects(manager, 0)
    assert repr(first) == "<AsyncDictProxy closed>"


async def until_objects(manager, count: int) -> None:
    with anyio.fail_after(10):
        while await in_a_thread(count_objects, manager) != count:  # noqa: ASYNC110
            await anyio.sleep(0.001)


async def test_an_object_whose_making_is_cancelled_is_given_up(manager) -> None:
    for n in range(20):
        with anyio.move_on_after(n * 0.0003):
            await manager.dict()
    await until_objects(manager, 0)


async def test_many_proxies_need_few_threads(manager) -> None:
    proxies = [await manager.Value("i", n) for n in range(30)]
    async with anyio.create_task_group() as tasks:
        for proxy in proxies:
            tasks.start_soon(proxy.set, 1)
        await anyio.wait_all_tasks_blocked()
    ours = [t for t in threading.enumerate() if t.name.startswith("aioipc")]
    assert len(ours) <= 10


async def test_a_detached_proxy_is_the_plain_one(manager) -> None:
    shared = await manager.dict(a=1)
    plain = shared.detach()
    assert await in_a_thread(plain.copy) == {"a": 1}
    assert shared.closed
    with pytest.raises(ValueError, match="closed"):
        _ = shared.sync


async def test_one_loop_after_the_other_uses_a_manager(fork) -> None:
    manager = aioipc.Manager(context=fork)

    async def begin() -> tuple[object, ...]:
        await manager.start()
        event, lock = await manager.Event(), await manager.Lock()
        await lock.acquire()
        with anyio.move_on_after(0.01):
            await event.wait()
        with anyio.move_on_after(0.01):
            await lock.acquire()
        return event, lock

    async def go_on(event, lock) -> None:
        await event.set()
        assert await event.wait()
        await lock.release()
        async with lock:
            assert not await lock.acquire(False)
        await manager.shutdown()

    event, lock = await run_sync(anyio.run, begin)
    await run_sync(anyio.run, go_on, event, lock)


async def test_a_manager_that_is_forgotten_is_ended_with_a_warning(fork) -> None:
    manager = aioipc.Manager(context=fork)
    await manager.start()
    pid = manager.sync._process.pid
    with pytest.warns(ResourceWarning, match="was not shut down"):  # noqa: PT031
        del manager
        gc.collect()
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid):
        assert time.monotonic() < deadline
        await anyio.sleep(0.01)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_program_that_forgets_its_manager_ends(backend) -> None:
    code = f"""if True:
        import aioipc, anyio, multiprocessing

        async def main():
            global kept
            context = multiprocessing.get_context("fork")
            manager = aioipc.Manager(context=context)
            await manager.start()
            lock, rlock = await manager.Lock(), await manager.RLock()
            event, barrier = await manager.Event(), await manager.Barrier(2)
            kept = manager, lock, rlock, event, barrier
            await rlock.acquire()
            await lock.acquire()
            for call in (lock.acquire, event.wait, barrier.wait):
                with anyio.move_on_after(0.01):
                    await call()

        anyio.run(main, backend={backend!r})
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
