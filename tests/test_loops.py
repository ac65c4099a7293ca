"""One object on several event loops, and programs that end."""

import contextlib
import functools
import os
import subprocess
import sys
import threading
import time

import anyio
import bridge_peers as peers
import pytest

import aioipc
from aioipc.transport.choice import open_watch
from aioipc.transport.loops import current_loop

RUNS = {
    "asyncio": {"backend": "asyncio"},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
    "trio": {"backend": "trio"},
}


def run(loop: str, function, *args):
    return anyio.run(function, *args, **RUNS[loop])


@pytest.mark.parametrize("second", RUNS)
@pytest.mark.parametrize("first", RUNS)
def test_two_loops_one_after_the_other(first, second, transport, fork) -> None:
    connection, plain = aioipc.Pipe(context=fork, transport=transport)
    plain = peers.Peer(plain)
    queue = aioipc.Queue(context=fork, transport=transport)

    async def use(n: int) -> None:
        with anyio.move_on_after(0.001):
            await connection.recv()  # leaves a registration behind
        plain.send(n)
        assert await connection.recv() == n
        await connection.send(n)
        assert plain.recv() == n
        with anyio.move_on_after(0.001):
            await queue.get()
        await queue.put(n)
        assert await queue.get() == n

    run(first, use, 1)
    run(second, use, 2)
    run(first, queue.aclose)
    run(second, connection.aclose)
    plain.close()


async def test_a_watch_closed_when_it_is_ready_does_not_touch_its_descriptor() -> None:
    for _ in range(20):  # trio goes on with ready tasks in a random order
        await close_each_other()


async def close_each_other() -> None:
    pipes = [os.pipe() for _ in range(2)]
    watches = []

    def read(n) -> bool:
        watches[1 - n].close()
        os.close(pipes[1 - n][0])
        return bool(os.read(pipes[n][0], 1))  # EBADF if it has been closed

    for n, (reader, writer) in enumerate(pipes):
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        os.write(writer, b"!")
        step = functools.partial(read, n)
        watches.append(open_watch(current_loop(), reader, "read", step, None))

    async def wait(watch) -> None:
        with contextlib.suppress(aioipc.ClosedResourceError):
            await watch.wait()

    async with anyio.create_task_group() as group:
        for watch in watches:
            group.start_soon(wait, watch)
    for watch in watches:
        watch.close()
    for fd in (fd for pipe in pipes for fd in pipe):
        with contextlib.suppress(OSError):
            os.close(fd)


@pytest.mark.parametrize("second", RUNS)
@pytest.mark.parametrize("first", RUNS)
def test_two_loops_at_once_is_a_clear_error(first, second, transport, fork) -> None:
    connection, plain = aioipc.Pipe(context=fork, transport=transport)
    plain = peers.Peer(plain)
    queue = aioipc.Queue(context=fork, transport=transport)
    started, tried = threading.Event(), threading.Event()

    async def receive() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(connection.recv)
            group.start_soon(queue.get)
            await anyio.wait_all_tasks_blocked()
            started.set()
            await anyio.to_thread.run_sync(tried.wait)
            plain.send(1)
            await queue.put(2)

    async def intrude() -> None:
        for call in (connection.recv, connection.recv_bytes, queue.get):
            with pytest.raises(aioipc.EventLoopError, match="another event loop"):
                await call()

    thread = threading.Thread(target=run, args=(first, receive))
    thread.start()
    started.wait()
    try:
        run(second, intrude)
    finally:
        tried.set()
        thread.join()
    run(second, connection.aclose)
    run(second, queue.aclose)
    plain.close()


PROGRAM = """
import sys, anyio, aioipc, time

async def main():
    connection, plain = aioipc.Pipe(transport=sys.argv[2])
    queue = aioipc.Queue(transport=sys.argv[2])
    full = aioipc.Queue(1, transport=sys.argv[2])
    await full.put(1)
    for call in (connection.recv, queue.get, lambda: full.put(2)):
        with anyio.move_on_after(0.01):
            await call()
    globals()["kept"] = (connection, plain, queue, full)

loop = sys.argv[1]
anyio.run(
    main,
    backend="trio" if loop == "trio" else "asyncio",
    backend_options={"use_uvloop": True} if loop == "uvloop" else {},
)
print(time.time(), flush=True)
"""


@pytest.mark.parametrize("loop", RUNS)
def test_the_interpreter_exits_at_once_with_everything_left_open(
    loop, transport
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, loop, transport],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    # The figure is 1 s; a loaded machine gets more.
    assert time.time() - float(done.stdout) < 5
    assert done.stderr == ""


UNREAD = """
import anyio, aioipc

async def main():
    queue = aioipc.Queue()
    queue.cancel_join_thread()
    await queue.put(b"x" * 1_000_000)

anyio.run(main)
"""


def test_cancel_join_thread_holds_for_what_is_put_afterwards() -> None:
    # Without it, the program would wait for a reader for ever.
    subprocess.run([sys.executable, "-c", UNREAD], timeout=20, check=True)


LEFT_HALFWAY = """
import os, sys
import anyio, aioipc

SIZE = 64 << 20

async def main():
    queue = aioipc.SimpleQueue()
    if os.fork() == 0:
        os.close(begun_write)
        os.read(begun, 1)  # until the program below has ended its main(), or more
        print(len(queue.sync.get()) == SIZE, flush=True)
        os._exit(0)
    with anyio.move_on_after(0.1):
        await queue.put(b"x" * SIZE)
        raise AssertionError
    assert queue.statistics().unwritten_items == 1

begun, begun_write = os.pipe()
anyio.run(main)
os.close(begun_write)
"""


def test_a_put_that_was_cancelled_halfway_is_written_before_the_program_ends() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LEFT_HALFWAY],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == "True\n"
    assert done.stderr == ""
