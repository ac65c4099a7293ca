"""Locks and semaphores, awaited, with plain users of them in other processes."""

import asyncio
import contextlib
import multiprocessing
import random
import subprocess
import sys
import threading
import weakref
from multiprocessing.managers import SyncManager

import anyio
import lock_peers as peers
import pytest
from anyio.lowlevel import checkpoint
from lock_control import ASYNCIO, Peer, service_threads, until_no_service_threads

import aioipc

pytestmark = pytest.mark.usefixtures("quick_threads")

KINDS = {
    "lock": aioipc.Lock,
    "rlock": aioipc.RLock,
    "semaphore": aioipc.Semaphore,
    "bounded": aioipc.BoundedSemaphore,
}


@pytest.fixture(params=KINDS)
def make(request):
    return KINDS[request.param]


@pytest.fixture(params=["lock", "rlock"])
def make_lock(request):
    """Where the semaphores are no different."""
    return KINDS[request.param]


def run_at_once(main, anyio_backend) -> None:
    """Run it in three threads, with an event loop each."""
    backend, options = anyio_backend
    errors = []
    aioipc.wrap(multiprocessing.Barrier(3))  # to import takes locks

    def run() -> None:
        try:
            anyio.run(main, backend=backend, backend_options=options)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not errors
    assert not any(thread.is_alive() for thread in threads)


# As the library reference has it


async def test_tasks_and_processes_exclude_each_other(make, context) -> None:
    lock, counter = make(context=context), context.RawValue("i", 0)
    process = aioipc.Process(
        target=peers.count_up, args=(lock, counter, 100), context=context
    )

    async def count_up() -> None:
        for _ in range(50):
            async with lock:
                count = counter.value
                await checkpoint()
                counter.value = count + 1

    async with process, anyio.create_task_group() as group:
        group.start_soon(count_up)
        group.start_soon(count_up)
    assert counter.value == 200
    assert lock.sync.acquire(False)
    lock.sync.release()


async def test_acquire_waits_for_another_process(make, context) -> None:
    lock = make(context=context)

    async def have_it_released() -> None:
        await anyio.wait_all_tasks_blocked()
        assert lock.statistics().tasks_waiting == 1
        assert await peer.call("release") is None

    async with Peer(context, lock) as peer:
        assert await peer.call("acquire") is True
        assert lock.locked()
        assert await lock.acquire(False) is False
        assert await lock.acquire(False, 100) is False
        assert await lock.acquire(timeout=0) is False
        assert await lock.acquire(True, -1) is False
        assert await lock.acquire(timeout=0.01) is False
        async with anyio.create_task_group() as group:
            group.start_soon(have_it_released)
            assert await lock.acquire()
        assert await peer.call("acquire", False) is False
        lock.release()
        assert await peer.call("acquire", False) is True
        assert await peer.call("release") is None
        assert not lock.locked()


async def test_the_arguments_have_multiprocessings_names(make, fork) -> None:
    lock = make(context=fork)
    assert await lock.acquire(block=True, timeout=None)
    again = make is aioipc.RLock  # its owner never waits
    assert await lock.acquire(block=False) is again
    assert await lock.acquire(block=False, timeout=100) is again
    assert await lock.acquire(block=True, timeout=-1) is again
    for _ in range(4 if again else 1):
        lock.release()
    assert await lock.acquire(block=True, timeout=0.0)


async def test_any_process_or_thread_may_release_a_lock_or_a_semaphore(
    context,
) -> None:
    for make in (aioipc.Lock, aioipc.Semaphore, aioipc.BoundedSemaphore):
        lock = make(context=context)
        async with Peer(context, lock) as peer:
            await lock.acquire()
            assert await peer.call("release") is None
            assert await lock.acquire(timeout=0)
            await anyio.to_thread.run_sync(lock.sync.release)
            assert await peer.call("acquire", False) is True
            lock.release()
            assert not lock.locked()


async def test_a_lock_released_too_often_is_a_value_error(fork) -> None:
    for make in (aioipc.Lock, aioipc.BoundedSemaphore):
        lock = make(context=fork)
        with pytest.raises(ValueError, match="released too many times"):
            lock.release()
        async with lock:
            pass
        with pytest.raises(ValueError, match="released too many times"):
            lock.release()
        assert await lock.acquire(False)
        assert not await lock.acquire(False)


async def test_a_semaphore_counts(fork) -> None:
    semaphore = aioipc.Semaphore(2, context=fork)
    bounded = aioipc.BoundedSemaphore(2, context=fork)
    for each in (semaphore, bounded):
        assert [await each.acquire(False) for _ in range(3)] == [True, True, False]
        assert each.get_value() == 0
        each.release()
        each.release()
        assert each.get_value() == 2
    semaphore.release()
    assert semaphore.get_value() == 3
    with pytest.raises(ValueError, match="too many"):
        bounded.release()


async def test_an_rlock_is_owned_by_a_task(context) -> None:
    lock = aioipc.RLock(context=context)
    got = []

    async def try_it() -> None:
        got.append(await lock.acquire(False))
        with pytest.raises(AssertionError, match="not owned"):
            lock.release()

    async with Peer(context, lock) as peer:
        for _ in range(3):
            assert await lock.acquire()
        async with anyio.create_task_group() as group:
            group.start_soon(try_it)
        for left in (2, 1):
            lock.release()
            assert lock.statistics().count == left
            assert await peer.call("acquire", False) is False
            assert await peer.call("release") == "AssertionError"
        lock.release()
        assert await peer.call("acquire", False) is True
        assert await peer.call("acquire", False) is True
        with pytest.raises(AssertionError, match="not owned"):
            lock.release()
        assert await peer.call("release") is None
        assert not await lock.acquire(False)
        assert await peer.call("release") is None
        assert await lock.acquire(False)
        lock.release()
    assert got == [False]


async def test_what_waited_in_a_thread_is_released_by_the_loop(make, fork) -> None:
    lock = make(context=fork)
    async with Peer(fork, lock, peers.hold) as peer:
        assert await peer.connection.recv() == "held"

        async def acquire_and_release() -> None:
            async with lock:
                assert lock.locked()

        async with anyio.create_task_group() as group:
            group.start_soon(acquire_and_release)
            await anyio.wait_all_tasks_blocked()
            await peer.connection.send("go on")
        assert await peer.connection.recv() == "released"
        await peer.process.join()
    assert lock.sync.acquire(False)
    lock.sync.release()


async def test_a_lock_whose_task_has_ended_stays_held(make, fork) -> None:
    lock = make(context=fork)
    async with anyio.create_task_group() as group:
        group.start_soon(lock.acquire)
    assert not await lock.acquire(False)
    if make is not aioipc.RLock:
        lock.release()
        assert await lock.acquire(False)


async def test_plain_code_of_the_loops_thread_does_not_own_a_tasks_rlock(fork) -> None:
    lock = aioipc.RLock(context=fork)
    async with lock:
        assert not lock.sync.acquire(False)
        with pytest.raises(AssertionError):
            lock.sync.release()
    with lock.sync:
        assert not await lock.acquire(False)
        assert not await lock.acquire(timeout=0.01)
        with lock.sync:
            pass
    assert await lock.acquire(timeout=5)


async def test_a_lock_that_is_wrapped_again_is_the_same_lock(make_lock, fork) -> None:
    plain = make_lock(context=fork).sync
    value, condition = fork.Value("i", lock=plain), fork.Condition(plain)
    assert await aioipc.wrap(plain).acquire()
    assert aioipc.wrap(value).statistics().count == 1
    assert await aioipc.wrap(value).acquire(False) is (make_lock is aioipc.RLock)
    await aioipc.wrap(condition).notify()
    assert not await aioipc.wrap(condition).wait(0)
    while aioipc.wrap(plain).locked():
        aioipc.wrap(condition).release()
    with plain:
        pass


async def test_tasks_are_served_in_their_order_by_whatever_awaitable(
    make, fork
) -> None:
    plain, order = make(context=fork).sync, []

    async def take(n: int) -> None:
        async with aioipc.wrap(plain):
            order.append(n)
            await checkpoint()

    async with anyio.create_task_group() as group, aioipc.wrap(plain):
        for n in range(5):
            group.start_soon(take, n)
            await anyio.wait_all_tasks_blocked()
        assert aioipc.wrap(plain).statistics().tasks_waiting == 5
        assert len(service_threads()) == 1
    assert order == list(range(5))


def test_what_awaitables_share_goes_with_the_plain_lock(make, fork) -> None:
    lock = make(context=fork)
    shared, plain = weakref.ref(lock._tenure), lock.sync
    del lock
    assert aioipc.wrap(plain)._tenure is shared()
    del plain
    assert shared() is None


# Who comes when, and who goes


async def test_tasks_are_served_in_the_order_in_which_they_came(make, fork) -> None:
    lock = make(context=fork)
    order = []

    async def take(n: int) -> None:
        async with lock:
            order.append(n)
            await checkpoint()

    await lock.acquire()
    async with anyio.create_task_group() as group:
        for n in range(20):
            group.start_soon(take, n)
            await anyio.wait_all_tasks_blocked()
        assert lock.statistics().tasks_waiting == 20
        lock.release()
    assert order == list(range(20))


async def test_a_newcomer_does_not_overtake(fork) -> None:
    semaphore = aioipc.Semaphore(0, context=fork)
    async with anyio.create_task_group() as group:
        group.start_soon(semaphore.acquire)
        await anyio.wait_all_tasks_blocked()
        semaphore.release()
        assert not await semaphore.acquire(False)


async def test_a_thousand_waiting_tasks_take_one_thread(fork) -> None:
    lock = aioipc.Lock(context=fork)
    await lock.acquire()
    async with anyio.create_task_group() as group:
        for _ in range(1000):
            group.start_soon(lock.acquire)
        await anyio.wait_all_tasks_blocked()
        assert lock.statistics().tasks_waiting == 1000
        assert len(service_threads()) == 1
        group.cancel_scope.cancel()
    lock.release()
    await until_no_service_threads()
    assert await lock.acquire(False)


async def test_a_cancelled_waiter_lets_the_next_one_come(make_lock, fork) -> None:
    lock = make_lock(context=fork)
    scope, got = anyio.CancelScope(), []

    async def wait_first() -> None:
        with scope:
            await lock.acquire()

    async def wait_next() -> None:
        got.append(await lock.acquire())

    await lock.acquire()
    async with anyio.create_task_group() as group:
        group.start_soon(wait_first)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(wait_next)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
        await anyio.wait_all_tasks_blocked()
        assert lock.statistics().tasks_waiting == 1
        lock.release()
    assert scope.cancelled_caught
    assert got == [True]


async def test_a_cancel_about_the_moment_of_success_loses_nothing(make, fork) -> None:
    lock = make(context=fork)

    async def take() -> None:
        async with lock:
            await checkpoint()

    for n in range(20):
        assert await lock.acquire(timeout=5)
        async with anyio.create_task_group() as group:
            group.start_soon(take)
            await anyio.wait_all_tasks_blocked()
            lock.release()
            for _ in range(n):
                await checkpoint()
            group.cancel_scope.cancel()
    assert await lock.acquire(timeout=5)


@pytest.mark.parametrize("anyio_backend", ASYNCIO, indirect=True)
async def test_asyncios_own_cancel_at_any_step_loses_nothing(make, fork) -> None:
    lock = make(context=fork)

    async def take() -> None:
        async with lock:
            await asyncio.sleep(0)

    for steps in range(30):
        await lock.acquire()
        tasks = [asyncio.ensure_future(take()) for _ in range(3)]
        for _ in range(steps % 4):
            await asyncio.sleep(0)
        lock.release()
        for _ in range(steps):
            await asyncio.sleep(0)
        tasks[0].cancel()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(tasks[1], 0.001 * steps)
        await asyncio.wait(tasks)
        assert await lock.acquire(timeout=5)
        lock.release()


@pytest.mark.parametrize("count", [100, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_random_cancels_lose_and_make_no_permit(make, fork, count) -> None:
    lock, stop = make(context=fork), fork.RawValue("i", 0)
    process = aioipc.Process(target=peers.contend, args=(lock, stop), context=fork)
    rng = random.Random(count)
    inside = held = cancelled = 0

    async def take() -> None:
        nonlocal inside, held, cancelled
        # A scope, or a timeout: both at any moment
        with anyio.move_on_after(rng.random() * 0.02) as scope:
            if not await lock.acquire(True, rng.choice([None, rng.random() * 0.02])):
                return
            try:
                inside += 1
                held += 1
                assert inside == 1
                await anyio.sleep(rng.random() * 0.001)
            finally:
                inside -= 1
                lock.release()
        cancelled += scope.cancelled_caught

    async with process:
        while cancelled < count:
            async with anyio.create_task_group() as group:
                for _ in range(100):
                    group.start_soon(take)
                    if rng.random() < 0.1:
                        await anyio.sleep(rng.random() * 0.002)
        stop.value = 1
        await process.join()
    assert held
    assert lock.statistics().tasks_waiting == 0
    assert await lock.acquire(timeout=5)
    assert not await lock.acquire(False) or make is aioipc.RLock
    await until_no_service_threads()


# Killed, forked, one loop and the next


async def test_a_killed_holder_can_be_waited_for_in_vain(make_lock, fork) -> None:
    lock = make_lock(context=fork)
    async with Peer(fork, lock, peers.hold) as peer:
        assert await peer.connection.recv() == "held"
        peer.process.kill()
        await peer.process.join()
        assert not await lock.acquire(timeout=0.05)
        with anyio.move_on_after(0.05) as scope:
            await lock.acquire()
        assert scope.cancelled_caught


def test_a_program_ends_although_a_killed_process_holds_the_lock() -> None:
    code = """if True:
        import aioipc, asyncio, multiprocessing, os, signal
        fork = multiprocessing.get_context("fork")

        def hold(lock):
            lock.acquire()
            os.kill(os.getpid(), signal.SIGKILL)

        async def main():
            lock = aioipc.Lock(context=fork)
            holder = aioipc.Process(target=hold, args=(lock,), context=fork)
            async with holder:
                await holder.join()
            waiting = asyncio.create_task(lock.acquire())
            assert not await lock.acquire(timeout=0.05)
            print(lock.statistics().tasks_waiting)

        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


async def test_a_forked_child_has_no_waiters_and_no_owner(make_lock, fork) -> None:
    lock = make_lock(context=fork)
    mine, theirs = aioipc.Pipe(context=fork)

    def tell() -> None:
        theirs.send(lock.statistics())
        theirs.send(anyio.run(lock.acquire, True, 0.1))

    await lock.acquire()
    process = fork.Process(target=tell)
    async with anyio.create_task_group() as group:
        group.start_soon(lock.acquire)
        await anyio.wait_all_tasks_blocked()
        async with mine, aioipc.wrap(process):
            assert await mine.recv() == aioipc.LockStatistics(True, 0)
            assert await mine.recv() is False
        group.cancel_scope.cancel()
    lock.release()


def test_it_serves_one_loop_after_the_other(make_lock, fork, anyio_backend) -> None:
    lock = make_lock(context=fork)
    backend, options = anyio_backend

    async def wait_in_vain() -> None:
        assert await lock.acquire(timeout=0.05) is (make_lock is aioipc.RLock)

    async def main() -> None:
        await lock.acquire()
        await wait_in_vain()
        async with anyio.create_task_group() as group:
            group.start_soon(lock.acquire)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        while lock.statistics().count > 1:
            lock.release()
        lock.release()

    for _ in range(2):
        anyio.run(main, backend=backend, backend_options=options)


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Condition"])
def test_loops_that_run_at_once_exclude_each_other(kind, fork, anyio_backend) -> None:
    plain, count = getattr(fork, kind)(), 0

    async def count_up() -> None:
        nonlocal count
        for _ in range(10):
            async with aioipc.wrap(plain):
                was = count
                if kind == "RLock":
                    async with aioipc.wrap(plain):
                        await checkpoint()
                elif kind == "Condition":
                    await aioipc.wrap(plain).notify()
                await checkpoint()
                count = was + 1

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(count_up)
            group.start_soon(count_up)

    run_at_once(main, anyio_backend)
    assert count == 60
    assert plain.acquire(False)
    plain.release()


def test_loops_that_run_at_once_wait_for_each_other(fork, anyio_backend) -> None:
    condition, barrier, arrived = fork.Condition(), fork.Barrier(3), 0

    async def arrive(all_of_them: int) -> None:
        nonlocal arrived
        async with aioipc.wrap(condition):
            arrived += 1
            await aioipc.wrap(condition).notify_all()
            await aioipc.wrap(condition).wait_for(lambda: arrived >= all_of_them)
            assert aioipc.wrap(condition).statistics().lock.count == 1

    async def main() -> None:
        for all_of_them in (3, 6, 9):
            await arrive(all_of_them)
            await aioipc.wrap(barrier).wait()

    run_at_once(main, anyio_backend)
    assert (arrived, barrier.n_waiting) == (9, 0)


async def test_a_line_in_one_loop_is_none_in_another(make_lock, fork) -> None:
    plain = make_lock(context=fork).sync
    lock = aioipc.wrap(plain)

    async def elsewhere() -> None:
        assert not await lock.acquire(False)
        assert not await aioipc.wrap(plain).acquire(timeout=0.01)
        assert lock.statistics().count == 1
        if make_lock is aioipc.RLock:
            with pytest.raises(AssertionError):
                aioipc.wrap(plain).release()
        assert lock.statistics().tasks_waiting == 1

    await lock.acquire()
    async with anyio.create_task_group() as group:
        group.start_soon(aioipc.wrap(plain).acquire)
        await anyio.wait_all_tasks_blocked()
        await anyio.to_thread.run_sync(anyio.run, elsewhere)
        group.cancel_scope.cancel()
    assert (lock.statistics().tasks_waiting, lock.statistics().count) == (0, 1)
    lock.release()


async def test_a_release_by_another_loop_comes_after_the_notifying(fork) -> None:
    lock = aioipc.Lock(context=fork)
    acquirer, go_on = lock.acquirer, threading.Event()
    await lock.acquire()
    job = acquirer.call_held(go_on.wait)

    async def elsewhere() -> None:
        await aioipc.wrap(lock.sync).acquire(False)
        aioipc.wrap(lock.sync).release()

    await anyio.to_thread.run_sync(anyio.run, elsewhere)
    assert lock.locked()
    go_on.set()
    await job.wait()
    await lock.acquire()
    lock.release()


# The object


async def test_handed_over_it_is_the_plain_one(context) -> None:
    locks = [make(context=context) for make in KINDS.values()]
    mine, theirs = aioipc.Pipe(context=context)
    process = aioipc.Process(
        target=peers.tell_kinds, args=(theirs, *locks), context=context
    )
    async with mine, process:
        assert await mine.recv() == [
            "multiprocessing.synchronize.Lock",
            "multiprocessing.synchronize.RLock",
            "multiprocessing.synchronize.Semaphore",
            "multiprocessing.synchronize.BoundedSemaphore",
        ]


async def test_wrap_and_detach(make, fork) -> None:
    plain = getattr(fork, make.__name__)()
    lock = aioipc.wrap(plain)
    assert type(lock) is type(make(context=fork))
    assert lock.sync is plain
    await lock.acquire()
    if make in (aioipc.Lock, aioipc.RLock):
        with pytest.raises(aioipc.BusyResourceError, match="in use"):
            lock.detach()
    else:
        async with anyio.create_task_group() as group:
            group.start_soon(lock.acquire)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(aioipc.BusyResourceError, match="waiting=1"):
                lock.detach()
            group.cancel_scope.cancel()
    lock.release()
    assert lock.detach() is plain
    assert repr(lock) == f"<{type(lock).__name__} detached>"
    for use in (lambda: lock.sync, lock.detach):
        with pytest.raises(aioipc.ClosedResourceError, match="detached"):
            use()
    with pytest.raises(aioipc.ClosedResourceError, match="detached"):
        await lock.acquire()
    with pytest.raises((aioipc.ClosedResourceError, AssertionError)):
        lock.release()
    with plain:
        pass


async def test_a_wrong_kind_is_refused(fork) -> None:
    with pytest.raises(TypeError, match="AsyncLock wraps a Lock, not <RLock"):
        aioipc.AsyncLock(fork.RLock())
    with pytest.raises(TypeError, match="AsyncBoundedSemaphore wraps a Bounded"):
        aioipc.AsyncBoundedSemaphore(fork.Semaphore())


async def test_wrap_refuses_options_that_say_nothing(fork) -> None:
    with pytest.raises(TypeError, match="of a Lock takes no transport"):
        aioipc.wrap(fork.Lock(), transport="threads")
    with pytest.raises(TypeError, match="SynchronizedBase takes no max_message_size"):
        aioipc.wrap(fork.Value("i"), max_message_size=-1)
    with pytest.raises(TypeError, match="Process takes no max_message_size"):
        aioipc.wrap(fork.Process(), max_message_size=1)
    with pytest.raises(TypeError, match="Manager takes no transport"):
        aioipc.wrap(SyncManager(ctx=fork), transport="readiness")
    with pytest.raises(TypeError, match="no awaitable counterpart of 'text'"):
        aioipc.wrap("text")


async def test_repr_and_statistics_tell_the_state(fork) -> None:
    names = []

    async def look(lock) -> None:
        names.append(lock.statistics().owner)
        assert repr(lock).endswith(f"owner={names[-1]} count=1 waiting=0>")
        assert names[-1]

    for make in (aioipc.Lock, aioipc.RLock):
        lock = make(context=fork)
        name = type(lock).__name__
        assert repr(lock) == f"<{name} unlocked waiting=0>"
        assert lock.statistics() == aioipc.LockStatistics(False, 0)
        async with lock:
            await look(lock)
        with lock.sync:
            assert repr(lock) == f"<{name} owner=elsewhere count=0 waiting=0>"
            assert lock.statistics() == aioipc.LockStatistics(True, 0)
    semaphore = aioipc.Semaphore(3, context=fork)
    assert repr(semaphore) == "<AsyncSemaphore value=3 waiting=0>"
    assert semaphore.statistics() == aioipc.LockStatistics(False, 0)
