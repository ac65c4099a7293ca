"""What workers write to stderr: shown here, and in the report of a crash."""

import os
from functools import partial

import anyio
import pool_tasks as tasks
import pytest

import aioipc
from aioipc.pool import stderr

LONG = 30.0


@pytest.fixture
async def pool(fork):
    async with aioipc.WorkerPool(2, mp_context=fork) as pool:
        yield pool


async def shown(capfd, text) -> str:
    """Wait until stderr has a text; return all of it."""
    said = ""
    with anyio.fail_after(LONG):
        while text not in said:
            captured = await anyio.to_thread.run_sync(capfd.readouterr)
            said += captured.err
    return said


async def test_the_last_words_of_a_worker_are_told(context, capfd) -> None:
    async with aioipc.WorkerPool(1, mp_context=context) as pool:
        with pytest.raises(aioipc.WorkerCrashed) as caught:
            await pool.run(tasks.say, "free():\ninvalid pointer\n", 3)
        error = caught.value
        assert error.stderr == "free():\ninvalid pointer"
        assert str(error).endswith("stderr:\n  free():\n  invalid pointer")
        await shown(capfd, "free():\ninvalid pointer\n")


async def test_what_a_worker_says_is_shown_meanwhile(pool, capfd) -> None:
    assert await pool.run(tasks.say, "working\n") == "working\n"
    assert await shown(capfd, "working") == "working\n"


async def test_what_a_task_prints_is_shown(context, capfd) -> None:
    async with aioipc.WorkerPool(1, mp_context=context) as pool:
        await pool.run(tasks.print_to, "stderr", "on stderr")
        assert await shown(capfd, "on stderr") == "on stderr\n"


async def test_the_end_of_a_flood_is_kept_and_all_of_it_shown(pool, capfd) -> None:
    flood = "".join(f"line {n}\n" for n in range(50_000))
    with pytest.raises(aioipc.WorkerCrashed) as caught:
        await pool.run(tasks.say, flood, 3)
    tail = caught.value.stderr
    assert len(tail) <= stderr.KEPT
    assert flood.endswith(f"\n{tail}\n")
    assert len(str(caught.value).splitlines()) < 20
    assert await shown(capfd, tail) == flood


async def test_a_worker_waits_for_an_stderr_that_is_full_and_no_one_else_does(
    pool, monkeypatch
) -> None:
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    monkeypatch.setattr(stderr, "_OURS", theirs)
    size = 1_000_000
    task = pool.submit(tasks.flood_stderr)
    with anyio.fail_after(LONG):
        for n in range(200):
            assert await pool.run(tasks.echo, n) == n
        assert not task.done()
        while size:
            await anyio.wait_readable(ours)
            size -= len(os.read(ours, size))
        assert await task == "flooded"
    os.close(ours)
    assert await pool.run(tasks.say, "to nobody") == "to nobody"
    await pool.aclose()
    os.close(theirs)


async def test_what_outlives_a_worker_can_write_on(pool, tmp_path, capfd) -> None:
    path = tmp_path / "told"
    os.mkfifo(path)
    with pytest.raises(aioipc.WorkerCrashed):
        await pool.run(tasks.leave_a_writer_behind, path)
    await pool.aclose()
    await anyio.Path(path).write_bytes(b"!")
    await shown(capfd, "from beyond")


async def test_the_last_words_before_a_worker_is_ready_are_told(fork) -> None:
    say = partial(tasks.say, "no such library\n", 3)
    async with aioipc.WorkerPool(1, mp_context=fork, initializer=say) as pool:
        with pytest.raises(aioipc.WorkerStartError, match="no such library"):
            await pool.run(tasks.echo, 1)
