"""What pools say they can do, and which one a program gets by configuration."""

import dataclasses
import sys

import pool_tasks as tasks
import pytest

import aioipc
from aioipc import Capabilities, UnsupportedOperation, open_pool
from aioipc.testing import InlinePool, check_pool

KINDS = {
    "process": aioipc.WorkerPool,
    "thread": aioipc.ThreadPool,
    "inline": InlinePool,
}


def test_capabilities_are_a_value_that_does_not_change() -> None:
    can = aioipc.ThreadPool(1).capabilities
    assert can == aioipc.ThreadPool(2).capabilities
    assert can == eval(repr(can), {"Capabilities": Capabilities})
    with pytest.raises(dataclasses.FrozenInstanceError):
        can.zero_copy = False
    assert not any(dataclasses.astuple(Capabilities()))  # what is new no one can yet


@pytest.mark.parametrize("kind", KINDS)
def test_they_are_made_once_for_a_pool(kind) -> None:
    pool = open_pool(kind)
    assert pool.capabilities is pool.capabilities


def test_a_pool_says_what_its_settings_leave_of_them() -> None:
    assert aioipc.WorkerPool().capabilities.zero_copy
    assert not aioipc.WorkerPool(max_shared_memory=0).capabilities.zero_copy
    assert InlinePool().capabilities.pickles
    assert not InlinePool(pickles=False).capabilities.pickles


async def test_a_refusal_says_what_is_missing_and_leaves_the_pool_as_it_was() -> None:
    async with aioipc.ThreadPool(1, name="mine") as pool:
        with pytest.raises(UnsupportedOperation) as caught:
            pool.options(priority=1, retries=2)
        assert caught.value.capability == "can_retry"
        assert str(caught.value) == (
            "ThreadPool can't do retries=2: its capabilities have can_retry=False"
        )
        urgent = pool.options(priority=1)
        with pytest.raises(NotImplementedError, match="on_cancel='kill'"):
            urgent.options(on_cancel="kill")
        assert await urgent.run(abs, -1) == 1
    with pytest.raises(ValueError, match="one of 'interrupt', 'kill'"):
        pool.options(on_cancel="nonsense")


@pytest.mark.parametrize(("kind", "type_"), KINDS.items(), ids=[*KINDS])
async def test_a_program_gets_the_pool_that_it_names(kind, type_) -> None:
    pool = open_pool(kind, max_workers=2, name="mine", grace=30)
    assert type(pool) is type_
    async with pool:
        assert await pool.run(tasks.echo, 1) == 1
        assert "'mine'" in repr(pool)
        assert (pool._grace, pool._width) == (30, 1 if kind == "inline" else 2)
    assert type(open_pool(kind)) is type_
    with pytest.raises(ValueError, match="at least 1"):
        open_pool(kind, max_workers=0)


def test_a_program_that_names_no_pool_gets_processes() -> None:
    assert type(open_pool()) is aioipc.WorkerPool


@pytest.mark.parametrize("kind", ["", "processes", "THREAD", "dask:", "tcp://a:1"])
def test_there_are_no_other_pools(kind) -> None:
    kinds = "'process', 'thread', 'inline', 'dask://host:port'"
    with pytest.raises(
        ValueError, match=f"no pool {kind!r}: it must be one of {kinds}"
    ):
        open_pool(kind)


def test_a_cluster_has_an_address() -> None:
    with pytest.raises(ValueError, match="followed by the scheduler's host:port"):
        open_pool("dask://")


def test_without_its_extra_a_cluster_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "aioipc.dask", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'aioipc\[dask\]'"):
        open_pool("dask://localhost:8786")


@pytest.mark.parametrize("kind", ["thread", "inline"])
async def test_a_check_skips_only_what_the_pool_says_that_it_cannot(kind) -> None:
    report = await check_pool(lambda: open_pool(kind, max_workers=2))
    can = open_pool(kind).capabilities
    reasons = {why.removeprefix("the pool has ") for why in report.skipped.values()}
    missing = {
        f"{field.name}=False"
        for field in dataclasses.fields(can)
        if not getattr(can, field.name)
    }
    assert reasons <= missing
    assert "test_what_it_cannot_is_refused" in report.passed
    assert not {*report.passed} & {*report.skipped}
