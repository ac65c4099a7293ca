"""`ThreadPool`, where it is not as any pool: see `test_pool_contract` for that."""

import contextvars
import gc
import os
import random
import subprocess
import sys
import threading
import weakref
from types import SimpleNamespace

import anyio
import pytest

import aioipc
from aioipc import TaskCancelled, ThreadPool, WorkerStartError
from aioipc.pool.threads import ThreadEngine
from aioipc.testing.gates import Gate, wait_at
from aioipc.worker import ends
from aioipc.worker.chunks import call_each


@pytest.fixture
async def pool():
    async with ThreadPool(2, grace=0.2) as pool:
        yield pool


def ours() -> list[str]:
    """The names of the threads of pools."""
    names = (thread.name for thread in threading.enumerate())
    return sorted(name for name in names if name.startswith("aioipc"))


class Thing:
    """Something that a weak reference can point to."""


async def test_arguments_and_results_are_passed_as_they_are(pool) -> None:
    mine = [1, lambda: 2]
    assert await pool.run(lambda it: it, mine) is mine
    assert await anext(pool.map(lambda it: it, [mine])) is mine


async def test_an_error_is_raised_itself_from_a_map_too(pool) -> None:
    error = KeyError("mine")

    def fail(_n: int) -> None:
        raise error

    with pytest.raises(KeyError) as caught:
        await pool.run(fail, 1)
    assert caught.value is error
    outcomes = [it async for it in pool.map(fail, [1, 2], return_exceptions=True)]
    assert outcomes == [error, error]


async def test_a_task_gets_the_plain_object_for_an_awaitable(pool) -> None:
    queue = aioipc.SimpleQueue()
    try:
        plain = await pool.run(lambda one, other: (one, other), queue, [queue])
        assert plain == (queue.sync, [queue])  # only where it is an argument by itself
        assert [it async for it in pool.map(type, [queue])] == [type(queue.sync)]
    finally:
        queue.close()


async def test_threads_are_started_as_tasks_come(pool) -> None:
    assert pool.statistics().workers == 0
    for n in range(10):
        assert await pool.run(abs, -n) == n
    assert ours() == ["aioipc pool 1"]
    assert repr(pool) == "<ThreadPool workers=1/2 running=0 pending=0>"
    async with Gate() as gate:
        calls = [pool.submit(wait_at, gate.address) for _ in range(3)]
        visits = [await gate.visit() for _ in range(2)]
        assert ours() == ["aioipc pool 1", "aioipc pool 2"]
        assert repr(pool) == "<ThreadPool workers=2/2 running=2 pending=1>"
        state = pool.statistics()
        assert (state.busy, state.idle, state.tasks_finished) == (2, 0, 10)
        assert [call.started for call in calls] == [True, True, False]
        await visits[0].let_go()
        await (await gate.visit()).let_go()
        await visits[1].let_go()
        assert [await call for call in calls] == ["go"] * 3
    assert pool.statistics().tasks_failed == 0


async def test_a_smaller_pool_lets_threads_go_and_a_larger_one_takes_them_back(
    pool,
) -> None:
    pool.resize(4)
    async with Gate() as gate:
        calls = [pool.submit(wait_at, gate.address) for _ in range(4)]
        visits = [await gate.visit() for _ in calls]
        pool.resize(1)
        pool.resize(3)
        for visit in visits[:3]:
            await visit.let_go()
        await pool._engine.until(lambda: pool.statistics().workers == 3)
        assert await pool.run(abs, -1) == 1  # one of them is still at the gate
        pool.resize(1)
        await pool._engine.until(lambda: pool.statistics().workers == 1)
        await visits[3].let_go()
        assert [await call for call in calls] == ["go"] * 4
    assert await pool.run(abs, -1) == 1


async def test_a_cancelled_task_has_begun_or_never_will(pool) -> None:
    chance, done = random.Random(6), set()
    calls = {}
    for n in range(3000):
        calls[n] = pool.submit(done.add, n)
        if chance.random() < 0.5:
            victim = chance.randrange(max(0, n - 3), n + 1)
            calls[victim].cancel()
        if n % 50 == 0:
            await anyio.lowlevel.checkpoint()
    for call in calls.values():
        if not call.cancelled():
            await call
    assert await pool.run(abs, -1) == 1
    withdrawn = {n for n, call in calls.items() if call._call.withdrawn}
    assert done | withdrawn == {*calls}
    assert not done & withdrawn
    assert all(calls[n].cancelled() for n in withdrawn)


async def test_a_shielded_task_is_withdrawn_or_goes_on(pool) -> None:
    shielded = pool.options(on_cancel="shield")
    async with Gate() as gate:
        running = [shielded.submit(wait_at, gate.address) for _ in range(2)]
        visits = [await gate.visit() for _ in running]
        pending = shielded.submit(wait_at, gate.address)
        assert [call.cancel() for call in (*running, pending)] == [False, False, True]
        for visit in visits:
            await visit.let_go()
        assert [await call for call in running] == ["go"] * 2
        with pytest.raises(TaskCancelled):
            await pending


async def test_urgent_tasks_pass_others_in_any_order_of_arrival(pool) -> None:
    pool.resize(1)
    begun: list[tuple[int, int]] = []
    async with Gate() as gate:
        first = pool.submit(wait_at, gate.address)
        visit = await gate.visit()
        urgencies = [random.Random(6).randrange(-3, 4) for _ in range(200)]
        for n, priority in enumerate(urgencies):
            pool.options(priority=priority).submit(begun.append, (-priority, n))
        await visit.let_go()
        await first
    await pool.options(priority=-9).run(abs, 1)
    assert begun == sorted(begun)
    assert len(begun) == 200
    assert len(pool._engine._lines) < 10


async def test_an_initializer_runs_once_in_each_thread() -> None:
    seen: list[str] = []

    def initialize(word: str) -> None:
        seen.append(f"{threading.current_thread().name} {word}")

    async with ThreadPool(
        2, initializer=initialize, initargs=("ready",), name="a"
    ) as it:
        assert await it.run(lambda: seen[:]) == ["aioipc a 1 ready"]
        async with Gate() as gate:
            calls = [it.submit(wait_at, gate.address) for _ in range(2)]
            for _ in calls:
                await (await gate.visit()).let_go()
            assert [await call for call in calls] == ["go"] * 2
    assert sorted(seen) == ["aioipc a 1 ready", "aioipc a 2 ready"]


async def test_a_task_s_context_is_its_own_as_the_initializer_left_it() -> None:
    variable = contextvars.ContextVar[str]("variable", default="")
    variable.set("the submitter's")

    def see() -> str:
        was = variable.get()
        variable.set("a task's")
        return was

    async with ThreadPool(1, initializer=variable.set, initargs=("all",)) as it:
        assert [await it.run(see) for _ in range(2)] == ["all"] * 2


async def test_an_initializer_that_raises_stops_the_pool() -> None:
    async with ThreadPool(2, initializer=int, initargs=("x",)) as it:
        call = it.submit(abs, -1)
        with pytest.raises(WorkerStartError, match="ValueError: invalid literal"):
            await call
        with pytest.raises(WorkerStartError) as caught:
            await it.run(abs, -1)
        assert isinstance(caught.value.__cause__, ValueError)


async def test_an_initializer_that_raises_later_stops_only_what_has_not_begun() -> None:
    begun: list[int] = []
    may_raise, initialized = threading.Event(), []

    def initialize() -> None:
        initialized.append(None)
        if len(initialized) == 2:
            may_raise.wait()
            raise ValueError("the second")

    async with Gate() as gate, ThreadPool(2, initializer=initialize) as it:
        running = it.submit(wait_at, gate.address)
        visit = await gate.visit()
        pending = [it.submit(begun.append, n) for n in range(5)]
        may_raise.set()
        for call in pending:
            with pytest.raises(WorkerStartError, match="ValueError: the second"):
                await call
        assert not running.done()
        await visit.let_go()
        assert await running == "go"
        await it._engine.until(it._engine.has_no_workers)
    assert begun == []


async def test_what_a_close_has_failed_never_begins(monkeypatch) -> None:
    """Not even if a thread was about to take it."""
    taking, may_take, begun = threading.Event(), threading.Event(), []
    next_ = ThreadEngine._next

    def held(engine: ThreadEngine):
        entry = next_(engine)
        taking.set()
        may_take.wait()
        return entry

    monkeypatch.setattr(ThreadEngine, "_next", held)
    pool = ThreadPool(1)
    call = pool.submit(begun.append, 1)
    await anyio.to_thread.run_sync(taking.wait)
    await pool.aclose(grace=0)
    thread = next(t for t in threading.enumerate() if t.name == "aioipc pool 1")
    may_take.set()
    await anyio.to_thread.run_sync(thread.join)
    assert isinstance(call.exception(), TaskCancelled)
    assert begun == []


async def test_cancelled_tasks_are_not_kept_and_need_no_thread(pool) -> None:
    engine, function = pool._engine, Thing()
    pool.resize(1)
    async with Gate() as gate:
        running = pool.submit(wait_at, gate.address)
        visit = await gate.visit()
        cancelled, kept = [], []
        for n in range(3000):
            call = pool.options(priority=n % 3).submit(lambda it: it, function)
            if n % 100:
                cancelled.append(call)
                call.cancel()
            else:
                kept.append(call)
            lines = sum(len(line) for _, line in engine._lines)
            assert lines <= max(2 * (engine._load + 1), engine._untidy)
        assert engine._load == 31
        await visit.let_go()
        assert await running == "go"
        assert all([await call is function for call in kept])
    reference = weakref.ref(function)
    del function, call
    kept.clear()
    gc.collect()
    assert reference() is None
    assert await pool.run(abs, -1) == 1
    assert engine._load == 0


async def test_a_thread_is_started_without_waiting_until_it_runs(pool) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # no one runs but who is let, by a wait
    try:
        begun: list[int] = []
        calls = [pool.submit(begun.append, n) for n in range(2)]
        assert pool.statistics().workers == 2
        assert begun == []
    finally:
        sys.setswitchinterval(interval)
    for call in calls:
        await call
    assert sorted(begun) == [0, 1]


class Odd:
    """What answers no question."""

    def __getattribute__(self, name: str) -> object:
        raise ValueError(name)

    @property
    def nbytes(self) -> int:
        raise ValueError


async def test_what_a_thread_can_not_weigh_costs_nothing(pool) -> None:
    kinds = [type(it) async for it in pool.map(lambda _: Odd(), range(3))]
    assert kinds == [Odd] * 3
    assert [it async for it in pool.map(lambda _: 1, [Odd()])] == [1]


async def test_what_goes_wrong_at_the_end_of_a_task_fails_that_only(
    pool, monkeypatch
) -> None:
    def end() -> None:
        raise OSError("the end")

    with monkeypatch.context() as patch:
        patch.setattr(ends, "_calls", [end])
        for _ in range(3):
            with pytest.raises(OSError, match="the end"):
                await pool.run(abs, -1)
    assert await pool.run(abs, -1) == 1
    assert pool.statistics().workers == 1


async def test_an_error_of_the_pool_s_own_fails_one_task(pool, monkeypatch) -> None:
    def make(*_: object) -> None:
        raise OSError("a fault")

    with monkeypatch.context() as patch:
        patch.setattr(ThreadEngine, "_make", make)
        with pytest.raises(OSError, match="a fault"):
            await pool.run(abs, -1)
    assert await pool.run(abs, -1) == 1
    await pool._engine.until(lambda: not pool._engine._load)
    assert (pool.statistics().busy, pool.statistics().workers) == (0, 1)


async def test_a_map_that_was_left_does_not_begin_another_item(pool) -> None:
    begun, may_go, done = threading.Event(), threading.Event(), []

    def work(n: int) -> None:
        begun.set()
        may_go.wait()
        done.append(n)

    engine = pool._engine
    how = {"go_on": True, **engine.chunk_options}
    chunk = engine.submit(call_each, (work, 1, 2, 3), how, pool._options)
    await anyio.to_thread.run_sync(begun.wait)
    engine.stop(chunk, TaskCancelled("the map was left"))
    may_go.set()
    while engine._load:
        await anyio.lowlevel.checkpoint()
    assert done == [1]


async def test_a_machine_that_has_no_thread_left(pool, monkeypatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    assert await pool.run(abs, -1) == 1
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert [await c for c in [pool.submit(abs, -n) for n in range(9)]] == [
            *range(9)
        ]
        async with ThreadPool(2) as other:
            with pytest.raises(WorkerStartError, match="no thread can be started"):
                await other.run(abs, -1)
    assert await pool.run(abs, -1) == 1


async def test_a_late_task_is_told_of_while_its_thread_is_at_it(pool) -> None:
    async with Gate() as gate:
        with pytest.raises(
            TimeoutError, match=r"task wait_at took longer than 0\.01 s"
        ):
            await pool.options(timeout=0.01).run(wait_at, gate.address)
        assert pool.statistics().tasks_running == 0
        assert pool.statistics().busy == 1
        assert await pool.run(abs, -1) == 1
        visit = await gate.visit()
        await visit.let_go()
        await visit.end()
    # One that waits for its turn is not late.
    assert await pool.options(timeout=60).run(abs, -1) == 1


async def test_a_task_that_ended_in_time_is_not_late_because_the_loop_was(
    pool, monkeypatch
) -> None:
    engine, timers, may_end = pool._engine, [], threading.Event()

    def call_later(_loop: object, _seconds: float, function):
        timers.append(function)
        return SimpleNamespace(cancel=list)

    with monkeypatch.context() as patch:
        patch.setattr(type(engine.loop), "call_later", call_later)
        call = pool.options(timeout=5).submit(lambda: may_end.wait() and "in time")
        while not timers:
            await anyio.lowlevel.checkpoint()
    may_end.set()
    while not engine._news:  # and the loop hears of nothing
        pass
    timers[0]()
    assert await call == "in time"


async def test_the_pool_keeps_no_result_and_no_argument(pool) -> None:
    argument, calls = Thing(), []
    calls.append(weakref.ref(argument))
    calls.append(weakref.ref(await pool.run(lambda _: Thing(), argument)))
    del argument
    gc.collect()
    assert [reference() for reference in calls] == [None, None]


async def test_a_thread_that_is_abandoned_ends_after_its_loop(pool) -> None:
    async with Gate() as gate:
        call = pool.submit(wait_at, gate.address)
        visit = await gate.visit()
        await pool.aclose(grace=0)
        assert repr(pool) == "<ThreadPool closed>"
        with pytest.raises(TaskCancelled):
            await call
        await visit.let_go()
        await visit.end()  # `nothing_is_left` sees to the thread


async def test_a_pool_that_is_dropped_warns_and_ends_its_threads() -> None:
    pool = ThreadPool(1)
    assert await pool.run(abs, -1) == 1
    with pytest.warns(ResourceWarning, match="unclosed <ThreadPool workers=1/1"):
        del pool  # `nothing_is_left` sees to the thread


def test_a_pool_that_is_not_closed_ends_with_its_loop(anyio_backend) -> None:
    pool = ThreadPool(1)

    async def main() -> int:
        return await pool.run(abs, -1)

    for _ in range(2):
        name, options = anyio_backend
        assert anyio.run(main, backend=name, backend_options=options) == 1
        assert pool._engine is None
    pool._closed = True


@pytest.mark.usefixtures("fork")  # for its warnings
async def test_a_fork_leaves_it_to_its_parent(pool) -> None:
    assert await pool.run(abs, -1) == 1
    child = os.fork()
    if child == 0:
        try:
            with pytest.raises(aioipc.ClosedResourceError, match="was forked from"):
                pool.submit(abs, -1)
            pool.__del__()
            os._exit(0 if pool.statistics().workers == 0 else 1)
        finally:
            os._exit(2)
    _, status = await anyio.to_thread.run_sync(os.waitpid, child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert await pool.run(abs, -1) == 1


async def test_its_executor_takes_calls_from_any_thread(pool) -> None:
    executor = pool.as_executor()

    def call() -> int:
        return executor.submit(abs, -5).result(timeout=20)

    assert await anyio.to_thread.run_sync(call) == 5


def test_what_it_cannot_is_no_default_either() -> None:
    with pytest.raises(aioipc.UnsupportedOperation, match="can_kill_running=False"):
        ThreadPool(on_cancel="interrupt")
    with pytest.raises(ValueError, match="at least 1"):
        ThreadPool(0)


def test_an_abandoned_task_does_not_keep_the_program_from_ending() -> None:
    code = """if True:
        import anyio, threading
        from aioipc import ThreadPool

        begun = threading.Event()

        def work():
            begun.set()
            threading.Event().wait()

        async def main():
            async with ThreadPool(2, grace=0) as pool:
                task = pool.submit(work)
                await pool.run(begun.wait)
                task.cancel()
            print("left")

        anyio.run(main)
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "left\n", "")


async def test_threads_that_change_places_at_every_step_lose_nothing() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        async with ThreadPool(4) as pool:
            for round_ in range(30):
                pool.resize(1 + round_ % 4)
                calls = [
                    pool.options(priority=n % 3).submit(abs, -n) for n in range(50)
                ]
                assert [await call for call in calls] == [*range(50)]
            pool.resize(1)
            await pool._engine.until(lambda: pool.statistics().workers == 1)
            assert pool._engine._load == 0
    finally:
        sys.setswitchinterval(interval)
