"""What every `Pool` must do, as tests: of this package's pools, and of yours.

`check_pool` makes all of them, in any event loop, with no test framework. For pytest
there is `PoolContract`, to be inherited from::

    class TestMyPool(PoolContract):
        @pytest.fixture
        async def pool(self):
            async with MyPool(2) as pool:
                yield pool

Its tests are coroutines: run them with anyio's pytest plugin, or another one. They need
a new pool each, of two workers where there can be several. Workers must run on this
machine, and be able to import `aioipc.testing`.

What a pool's `capabilities` say it can't do is skipped, and tests that it is refused.
"""

import contextlib
import functools
import math
import operator
import traceback
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterator,
)
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, fields
from typing import Any
from unittest import SkipTest

import anyio
import anyio.lowlevel

from aioipc.abc import Capabilities, Pool
from aioipc.errors import (
    ClosedResourceError,
    EncodeError,
    TaskCancelled,
    UnsupportedOperation,
    WorkerCrashed,
)
from aioipc.testing.gates import Address, Gate, Visit, wait_at

__all__ = ["PoolContract", "PoolReport", "check_pool"]

PATIENCE = 20.0
"""Seconds after which something is taken to hang."""

SOON = 0.05
"""Seconds that a task may run which is to be late."""

Check = Callable[[Any, Pool], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class PoolReport:
    """How a pool has kept its contract.

    :ivar passed: the names of checks
    :ivar skipped: why each other one was not made
    """

    passed: list[str] = field(default_factory=list[str])
    skipped: dict[str, str] = field(default_factory=dict[str, str])


async def check_pool(
    make_pool: Callable[[], AbstractAsyncContextManager[Pool]],
) -> PoolReport:
    """Check that a pool does what `aioipc.abc.Pool` promises.

    :param make_pool: returns a new pool, of two workers where there can be several, to
        be entered; called for each check
    :raises ExceptionGroup: of what failed; the notes of each error name the check
    """
    report, failures = PoolReport(), list[Exception]()
    checks = [name for name in vars(PoolContract) if name.startswith("test_")]
    for name in checks:
        check = getattr(PoolContract(), name)
        try:
            with anyio.fail_after(PATIENCE):
                async with make_pool() as pool:
                    await check(pool)
        except SkipTest as why:
            report.skipped[name] = str(why)
        except Exception as error:  # noqa: BLE001 - whatever the pool raises
            error.add_note(f"in {name}")
            failures.append(error)
        else:
            report.passed.append(name)
    if failures:
        count = f"{len(failures)} of {len(checks)}"
        raise ExceptionGroup(f"{count} checks of the pool failed", failures)
    return report


def needs(*names: str) -> Callable[[Check], Check]:
    """Skip a test of pools that lack one of these capabilities."""
    known = {each.name for each in fields(Capabilities)}
    assert known.issuperset(names), names

    def decorate(check: Check) -> Check:
        @functools.wraps(check)
        async def checked(self: object, pool: Pool) -> None:
            for name in names:
                if not getattr(pool.capabilities, name):
                    raise SkipTest(f"the pool has {name}=False")
            await check(self, pool)

        return checked

    return decorate


class PoolContract:
    """Tests of what a pool promises."""

    # Calls

    async def test_run_returns_the_result(self, pool: Pool) -> None:
        assert await pool.run(math.factorial, 20) == math.factorial(20)
        assert await pool.run(sorted, [1, 3, 2], reverse=True) == [3, 2, 1]
        assert await pool.run(functools.partial(pow, 2), 5) == 32

    async def test_run_raises_what_the_function_raises(self, pool: Pool) -> None:
        with _raises(ZeroDivisionError) as caught:
            await pool.run(_divide, 1, 0)
        assert "in _divide" in "".join(traceback.format_exception(caught[0]))
        assert await pool.run(abs, -1) == 1

    async def test_what_would_steer_the_caller_comes_wrapped(self, pool: Pool) -> None:
        kinds: list[type[BaseException]] = [StopIteration, SystemExit, TaskCancelled]
        if pool.capabilities.concurrent:  # else it is the program's own, by Ctrl-C
            kinds.append(KeyboardInterrupt)
        for kind in kinds:
            with _raises(RuntimeError) as caught:
                await pool.run(_raise, kind)
            assert kind.__name__ in str(caught[0])
            assert "in _raise" in "".join(traceback.format_exception(caught[0]))
        assert await pool.run(abs, -1) == 1

    @needs("pickles")
    async def test_what_cannot_be_pickled_fails_one_call(self, pool: Pool) -> None:
        for function, argument in ((abs, (n for n in range(3))), (_generate, 1)):
            with _raises(EncodeError):
                await pool.run(function, argument)  # type: ignore[arg-type]
        assert await pool.run(abs, -1) == 1

    @needs("pickles")
    async def test_a_task_works_on_copies(self, pool: Pool) -> None:
        mine = [1]
        assert await pool.run(_append, mine, 2) == [1, 2]
        assert mine == [1]
        assert [each async for each in pool.starmap(_append, [(mine, 3)])] == [[1, 3]]
        assert mine == [1]

    @needs("pickles")
    async def test_a_result_is_a_copy(self, pool: Pool) -> None:
        tasks = [pool.submit(_fill, n) for n in range(20)]
        for n, task in enumerate(tasks):
            assert set(await task) == {n}

    async def test_large_buffers_arrive_whole(self, pool: Pool) -> None:
        sent = bytes(range(256)) * 4096
        assert await pool.run(_join, sent, sent[::-1]) == sent + sent[::-1]

    async def test_many_calls_at_once(self, pool: Pool) -> None:
        got: dict[int, int] = {}

        async def call(n: int) -> None:
            got[n] = await pool.run(operator.neg, n)

        async with anyio.create_task_group() as group:
            for n in range(300):
                group.start_soon(call, n)
        assert got == {n: -n for n in range(300)}

    # Handles

    async def test_a_handle_is_awaited_often_and_late(self, pool: Pool) -> None:
        task = pool.submit(math.factorial, 5)
        assert [await task, await task] == [120, 120]
        assert (task.done(), task.cancelled(), task.exception()) == (True, False, None)
        failing = pool.submit(_divide, 1, 0)
        for _ in range(2):
            with _raises(ZeroDivisionError):
                await failing
        assert isinstance(failing.exception(), ZeroDivisionError)

    async def test_a_handle_cancelled_at_once(self, pool: Pool) -> None:
        task = pool.submit(math.factorial, 5)
        assert task.cancel()
        assert task.cancelled()
        assert not task.cancel()
        with _raises(TaskCancelled):
            await task
        assert await pool.run(abs, -1) == 1

    @needs("concurrent")
    async def test_a_handle_cancelled_while_its_task_runs(self, pool: Pool) -> None:
        async with Gate() as gate:
            task = pool.submit(wait_at, gate.address)
            visit = await gate.visit()
            assert not task.done()
            assert task.cancel()
            with _raises(TaskCancelled):
                await task
            if not pool.capabilities.can_kill_running:
                await visit.let_go()
            await visit.end()
        assert await pool.run(abs, -1) == 1

    # Cancels and timeouts

    @needs("concurrent", "can_kill_running")
    async def test_a_cancelled_run_stops_the_work(self, pool: Pool) -> None:
        for how in ("interrupt", "kill", "interrupt", "kill"):  # more than workers
            async with Gate() as gate:
                stopping = pool.options(on_cancel=how)  # type: ignore[arg-type]
                await (await _cancelled_run(stopping, gate)).end()
        assert await pool.run(abs, -1) == 1

    @needs("concurrent", "can_abandon_running")
    async def test_an_abandoned_run_goes_on_without_a_result(self, pool: Pool) -> None:
        async with Gate() as gate:
            visit = await _cancelled_run(pool.options(on_cancel="abandon"), gate)
            assert await pool.run(abs, -1) == 1
            await visit.let_go()
            await visit.end()
        assert await pool.run(abs, -1) == 1

    @needs("concurrent")
    async def test_a_shielded_run_is_awaited_to_its_end(self, pool: Pool) -> None:
        over = False

        async def run() -> None:
            nonlocal over
            try:
                with scope:
                    await pool.options(on_cancel="shield").run(wait_at, gate.address)
            finally:
                over = True

        async with Gate() as gate, anyio.create_task_group() as group:
            scope = anyio.CancelScope()
            group.start_soon(run)
            visit = await gate.visit()
            scope.cancel()
            assert await pool.run(abs, -1) == 1
            assert not over
            await visit.let_go()
            await visit.end()

    @needs("concurrent", "can_time_out")
    async def test_a_late_task_raises_timeout_error(self, pool: Pool) -> None:
        for _ in range(5 if pool.capabilities.can_kill_running else 1):
            async with Gate() as gate:  # whose end is the task's, where no one kills it
                with _raises(TimeoutError):
                    await pool.options(timeout=SOON).run(wait_at, gate.address)
        assert await pool.options(timeout=PATIENCE).run(abs, -1) == 1

    @needs("concurrent")
    async def test_a_task_cancelled_before_it_began_never_runs(
        self, pool: Pool
    ) -> None:
        async with Gate() as gate:
            busy, visits = await _busy(pool, gate)
            late = [pool.submit(wait_at, gate.address, "late") for _ in range(2)]
            late += [pool.submit(_wait_with, gate.address, _large()) for _ in range(2)]
            assert all(task.cancel() for task in late)
            after = [pool.submit(wait_at, gate.address, "after") for _ in range(2)]
            for visit in visits:
                await visit.let_go()
            for _ in after:
                visit = await gate.visit()
                assert visit.name == "after", "a cancelled task has begun"
                await visit.let_go()
            for task in (*busy, *after):
                assert await task == "go"

    # Maps

    async def test_a_map_keeps_the_order(self, pool: Pool) -> None:
        got = [result async for result in pool.map(operator.neg, range(500))]
        assert got == [-n for n in range(500)]
        got = [result async for result in pool.map(pow, [2, 3, 4, 5], _count(3))]
        assert got == [1, 3, 16]
        assert [n async for n in pool.starmap(pow, [(2, 3), (4, 2)])] == [8, 16]

    async def test_an_unordered_map_yields_all(self, pool: Pool) -> None:
        got = [result async for result in pool.map_unordered(operator.neg, range(500))]
        assert sorted(got) == sorted(-n for n in range(500))

    @needs("concurrent")
    async def test_an_unordered_map_waits_for_no_item(self, pool: Pool) -> None:
        async with Gate() as gate:
            addresses = [gate.address] * 2
            results = pool.map_unordered(wait_at, addresses, ["first", "second"])
            async with results, anyio.create_task_group() as group:
                visits: dict[str, Any] = {}

                async def let_go() -> None:
                    for _ in range(2):
                        visit = await gate.visit()
                        visits[visit.name] = visit
                    await visits["second"].let_go("second")

                group.start_soon(let_go)
                assert await anext(results) == "second"
                await visits["first"].let_go("first")
                assert await anext(results) == "first"

    async def test_a_map_reads_only_its_buffer_ahead(self, pool: Pool) -> None:
        read = 0

        def items() -> Iterator[int]:
            nonlocal read
            for n in range(200):
                read = n + 1
                yield n

        taken = 0
        async for result in pool.map(operator.neg, items(), buffersize=5):
            taken += 1
            assert result == 1 - taken
            assert read - taken <= 5
        assert taken == 200

    async def test_a_failing_item_raises_at_its_place(self, pool: Pool) -> None:
        divisors = [1, 2, 0, 4]
        got: list[float] = []
        with _raises(ZeroDivisionError) as caught:
            async for quotient in pool.map(_divide, [4] * 4, divisors):
                got.append(quotient)  # noqa: PERF401 - it raises
        assert got == [4, 2]
        assert "in _divide" in "".join(traceback.format_exception(caught[0]))
        outcomes = pool.map(_divide, [4] * 4, divisors, return_exceptions=True)
        kinds = [type(outcome) async for outcome in outcomes]
        assert kinds == [float, float, ZeroDivisionError, float]

    async def test_a_map_that_is_left_stops(self, pool: Pool) -> None:
        async with pool.map(operator.neg, range(10**12)) as results:
            async for result in results:
                if result == -100:
                    break
        with anyio.fail_after(PATIENCE):
            assert await pool.run(abs, -1) == 1

    # What some can do

    @needs("concurrent", "has_priorities", "can_resize")
    async def test_the_more_urgent_task_begins_first(self, pool: Pool) -> None:
        pool.resize(1)
        async with Gate() as gate:
            first = pool.submit(wait_at, gate.address, "first")
            visit = await gate.visit()
            later = [
                pool.options(priority=n).submit(wait_at, gate.address, str(n))
                for n in (1, 3, 2)
            ]
            for name in ("first", "3", "2", "1"):
                assert visit.name == name
                await visit.let_go(name)
                if name != "1":
                    visit = await gate.visit()
            assert await first == "first"
            assert [await task for task in later] == ["1", "3", "2"]

    @needs("concurrent", "survives_crashes")
    async def test_a_crash_costs_one_task(self, pool: Pool) -> None:
        async with Gate() as gate:
            dying = pool.options(retries=0).submit(wait_at, gate.address)
            await (await gate.visit()).let_die()
            if pool.capabilities.at_most_once:
                with _raises(WorkerCrashed):
                    await dying
            else:
                await (await gate.visit()).let_go("again")
                assert await dying == "again"
        assert await pool.run(abs, -1) == 1

    @needs("concurrent", "can_retry")
    async def test_a_crashed_task_is_run_again(self, pool: Pool) -> None:
        async with Gate() as gate:
            task = pool.options(retries=1).submit(wait_at, gate.address)
            await (await gate.visit()).let_die()
            await (await gate.visit()).let_go("again")
            assert await task == "again"

    @needs("concurrent", "can_resize")
    async def test_a_resized_pool_has_so_many_workers(self, pool: Pool) -> None:
        pool.resize(3)
        async with Gate() as gate:
            tasks = [pool.submit(wait_at, gate.address) for _ in range(3)]
            visits = [await gate.visit() for _ in tasks]
            assert pool.statistics().tasks_running == 3
            pool.resize(1)
            for visit in visits:
                await visit.let_go()
            assert [await task for task in tasks] == ["go"] * 3
        assert await pool.run(abs, -1) == 1

    async def test_what_it_cannot_is_refused(self, pool: Pool) -> None:
        asked: list[tuple[str, dict[str, Any]]] = [
            ("can_kill_running", {"on_cancel": "interrupt"}),
            ("can_kill_running", {"on_cancel": "kill"}),
            ("can_abandon_running", {"on_cancel": "abandon"}),
            ("can_time_out", {"timeout": 1}),
            ("has_priorities", {"priority": 1}),
            ("can_retry", {"retries": 1}),
        ]
        for capability, options in asked:
            if getattr(pool.capabilities, capability):
                pool.options(**options)
            else:
                with _raises(UnsupportedOperation) as caught:
                    pool.options(**options)
                assert getattr(caught[0], "capability", None) == capability
        pool.options(timeout=None, priority=0, retries=0, on_cancel="shield", name="x")
        if not pool.capabilities.can_resize:
            with _raises(UnsupportedOperation):
                pool.resize(1)

    async def test_its_options_are_of_the_same_pool(self, pool: Pool) -> None:
        other = pool.options(name="other")
        assert other.capabilities == pool.capabilities
        assert await other.run(abs, -1) == 1
        assert other.statistics() == pool.statistics()

    async def test_it_counts_its_tasks(self, pool: Pool) -> None:
        before = pool.statistics()
        assert await pool.run(abs, -1) == 1
        with _raises(ZeroDivisionError):
            await pool.run(_divide, 1, 0)
        after = pool.statistics()
        assert after.tasks_finished == before.tasks_finished + 1
        assert after.tasks_failed == before.tasks_failed + 1
        assert after.tasks_pending == after.tasks_running == 0

    # Ends

    async def test_a_close_waits_for_what_there_is(self, pool: Pool) -> None:
        tasks = [pool.submit(operator.neg, n) for n in range(20)]
        await pool.aclose(grace=PATIENCE)
        assert [await task for task in tasks] == [-n for n in range(20)]

    @needs("concurrent")
    async def test_a_close_without_grace_waits_for_nothing(self, pool: Pool) -> None:
        async with Gate() as gate:
            running = pool.submit(wait_at, gate.address)
            visit = await gate.visit()
            await pool.aclose(grace=0)
            with _raises(TaskCancelled):
                await running
            if not pool.capabilities.can_kill_running:
                await visit.let_go()
            await visit.end()

    @needs("concurrent")
    async def test_a_task_that_a_close_has_failed_never_begins(
        self, pool: Pool
    ) -> None:
        async with Gate() as gate:
            _, visits = await _busy(pool, gate)
            late = pool.submit(wait_at, gate.address, "late")
            await pool.aclose(grace=0)
            with _raises(TaskCancelled):
                await late
            for visit in visits:
                if not pool.capabilities.can_kill_running:
                    await visit.let_go()
                await visit.end()
            with anyio.move_on_after(SOON):  # a right one passes, however slow it is
                await gate.visit()
                raise AssertionError("a task has begun that the close had failed")

    async def test_a_closed_pool_refuses(self, pool: Pool) -> None:
        await pool.aclose()
        await pool.aclose()
        with _raises(ClosedResourceError):
            await pool.run(abs, -1)
        with _raises(ClosedResourceError):
            pool.submit(abs, -1)
        with _raises(ClosedResourceError):
            pool.map(abs, [-1])


def _divide(dividend: float, divisor: float) -> float:
    return dividend / divisor


def _raise(kind: type[BaseException]) -> None:
    raise kind("raised")


def _generate(count: int) -> Iterator[int]:
    return (n for n in range(count))


def _append(values: list[int], value: int) -> list[int]:
    values.append(value)
    return values


_filled = bytearray(1 << 20)


def _fill(value: int) -> bytearray:
    """Return the same buffer each time, with something else in it."""
    _filled[:] = bytes([value]) * len(_filled)
    return _filled


def _large() -> bytes:
    return bytes(2 << 20)


def _wait_with(address: Address, _large: bytes) -> str:
    return wait_at(address, "late")


def _join(one: bytes, other: bytes) -> bytes:
    return one + other


async def _count(count: int) -> AsyncIterator[int]:
    for n in range(count):
        await anyio.lowlevel.checkpoint()
        yield n


async def _hold(pool: Pool, gate: Gate) -> None:
    await pool.run(wait_at, gate.address)


async def _busy(pool: Pool, gate: Gate) -> tuple[list[Any], list[Visit]]:
    """Have both workers wait at the gate."""
    tasks = [pool.submit(wait_at, gate.address, "busy") for _ in range(2)]
    return tasks, [await gate.visit() for _ in tasks]


async def _cancelled_run(pool: Pool, gate: Gate) -> Any:
    """Cancel a run whose task is at the gate, and return that visit."""
    async with anyio.create_task_group() as group:
        group.start_soon(_hold, pool, gate)
        visit = await gate.visit()
        group.cancel_scope.cancel()
        return visit


@contextlib.contextmanager
def _raises(kind: type[BaseException]) -> Generator[list[BaseException]]:
    """Expect an exception, and append it to what is yielded."""
    caught: list[BaseException] = []
    try:
        yield caught
    except kind as error:
        caught.append(error)
    assert caught, f"{kind.__name__} was not raised"
