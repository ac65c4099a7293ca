"""However a program ends, its workers end with it; and a program does end."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

HERE = Path(__file__).parent
ENDS = ["SIGKILL", "SIGTERM", "SIGINT"]
METHODS = ["fork", "forkserver", "spawn"]
LOOPS = ["asyncio", "uvloop", "trio"]


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for_the_end(pids, seconds=10.0) -> None:
    deadline = time.monotonic() + seconds
    while left := [pid for pid in pids if is_alive(pid)]:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("loop", LOOPS)
def test_workers_end_with_the_program(loop, end, method, tmp_path) -> None:
    # One is idle, one in a Python loop, one in C code that holds the GIL.
    fifo = tmp_path / "begun"
    os.mkfifo(fifo)
    told = os.open(fifo, os.O_RDWR)  # so that it has a reader all the time
    with subprocess.Popen(
        [sys.executable, HERE / "pool_program.py", loop, method, fifo],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as program:
        assert program.stdout is not None
        pids = [int(pid) for pid in program.stdout.readline().split()]
        assert len(pids) == 3
        begun = b""
        while len(begun) < 2:
            begun += os.read(told, 2)
        os.close(told)
        program.send_signal(signal.Signals[end])
        wait_for_the_end([*pids, program.pid])
    with contextlib.suppress(ProcessLookupError):
        program.kill()


def run(program: str, tmp_path, *options) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "program.py"
    path.write_text(program)
    return subprocess.run(
        [sys.executable, *options, path],
        env={**os.environ, "PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_program_without_the_guard_is_told_so_once(method, tmp_path) -> None:
    program = f"""
import aioipc, anyio

async def main():
    async with aioipc.WorkerPool(4, mp_context={method!r}) as pool:
        await pool.run(abs, -1)

anyio.run(main)
"""
    done = run(program, tmp_path)
    assert done.returncode == 1
    assert done.stderr.count('if __name__ == "__main__":') == 1
    assert done.stderr.splitlines()[-1].strip().startswith("so that only the program")


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_may_be_made_when_a_module_is_imported(method, tmp_path) -> None:
    program = f"""
import aioipc, anyio

pool = aioipc.WorkerPool(2, mp_context={method!r})

async def main():
    async with pool:
        print(await pool.run(abs, -1))

if __name__ == "__main__":
    anyio.run(main)
"""
    done = run(program, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


@pytest.mark.parametrize("method", METHODS)
def test_a_program_that_forgets_its_pool_ends(method, tmp_path) -> None:
    program = f"""
import aioipc, anyio, asyncio, time

async def main():
    global pool
    pool = aioipc.WorkerPool(2, mp_context={method!r})
    task = pool.submit(time.sleep, 1000)
    print(await pool.run(abs, -1))

if __name__ == "__main__":
    asyncio.run(main())
"""
    done = run(program, tmp_path)
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert "Traceback" not in done.stderr


def test_a_task_of_a_loop_that_has_ended_is_not_waited_for(tmp_path) -> None:
    program = """
import aioipc, anyio, asyncio, time

async def use():
    assert await pool.run(abs, -1) == 1

if __name__ == "__main__":
    pool = aioipc.WorkerPool(2)
    asyncio.run(use())
    anyio.run(use, backend="trio")
    asyncio.run(pool.aclose())
"""
    done = run(program, tmp_path, "-W", "error")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("run_main", ["asyncio.run", "uvloop.run", "trio.run"])
def test_what_a_pool_leaves_ends_with_its_loop(run_main, tmp_path) -> None:
    program = f"""
import aioipc, asyncio, psutil, threading, time, trio, uvloop

def wait(future):
    try:
        future.result()
    except aioipc.TaskCancelled as error:
        print(error)

async def main():
    global pool, future
    pool = aioipc.WorkerPool(1, mp_context="fork")
    assert await pool.run(abs, -1) == 1
    future = pool.as_executor().submit(time.sleep, 1000)
    thread = threading.Thread(target=wait, args=(future,))
    thread.start()
    return thread

if __name__ == "__main__":
    {run_main}(main).join() if "trio" in {run_main!r} else {run_main}(main()).join()
    psutil.wait_procs(psutil.Process().children())
    try:
        pool.as_executor()
    except RuntimeError as error:
        print(error)
    del pool, future
"""
    done = run(program, tmp_path, "-W", "default")
    assert done.stdout == "the pool was not closed\nno running event loop\n"
    assert done.returncode == 0
    assert "ResourceWarning: unclosed <WorkerPool workers=0/1" in done.stderr


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_generator_may_use_its_pool_while_the_loop_ends(loop, tmp_path) -> None:
    program = f"""
import aioipc, asyncio, time, {loop}

async def values(pool):
    try:
        yield await pool.run(abs, -1)
    finally:
        print(await pool.run(abs, -2))
        await pool.aclose()

async def main():
    global generator  # or it would be closed sooner
    pool = aioipc.WorkerPool(1)
    pool.submit(time.sleep, 1000)
    generator = values(pool)
    pool.resize(2)
    print(await anext(generator))

if __name__ == "__main__":
    {loop}.run(main())
"""
    done = run(program, tmp_path)
    assert (done.returncode, done.stdout) == (0, "1\n2\n")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_can_be_closed_while_its_loop_ends(method, tmp_path) -> None:
    program = f"""
import aioipc, asyncio, time

async def close(pool):
    try:
        yield
    finally:
        await pool.aclose(grace=1)
        print("closed")

async def main():
    global closing, task
    pool = aioipc.WorkerPool(2, mp_context={method!r})
    closing = close(pool)
    await anext(closing)
    assert await pool.run(abs, -1) == 1
    task = pool.submit(time.sleep, 1000)

if __name__ == "__main__":
    asyncio.run(main())
"""
    done = run(program, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "closed\n", "")


def test_results_that_are_kept_to_the_end_are_let_go_in_silence(tmp_path) -> None:
    program = """
import aioipc, anyio

kept = []

async def main():
    async with aioipc.WorkerPool(1, mp_context="fork") as pool:
        kept.append(await pool.run(map, bytearray, [1 << 20, 3 << 20]))

def map(function, items):
    return [function(item) for item in items]

if __name__ == "__main__":
    anyio.run(main)
"""
    done = run(program, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("how", ["None", "io.StringIO()", "open(os.devnull, 'w')"])
def test_a_forked_worker_prints_to_its_own_descriptors(how, tmp_path) -> None:
    program = f"""
import aioipc, anyio, io, os, sys

async def main():
    sys.stdout = {how}
    async with aioipc.WorkerPool(1, mp_context="fork") as pool:
        await pool.run(print, "printed")

if __name__ == "__main__":
    anyio.run(main)
"""
    done = run(program, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("" if how == "None" else "printed\n")
