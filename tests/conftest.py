"""Every async test runs on three loops, every bridge test over both transports.

After every test nothing may be left behind, and a call that blocks the loop fails it.
"""

import gc
import multiprocessing
import os
import warnings
from collections.abc import Iterator
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import BaseContext

import anyio
import hypothesis  # noqa: F401 - before gc.freeze(), which would puzzle it
import pytest
from blockbuster import BlockBuster, BlockBusterFunction, blockbuster_ctx

import aioipc
from aioipc.testing import no_leaks

PEER_METHODS = {"send", "send_bytes", "recv", "recv_bytes", "write", "resident"}

LOOPS = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    pytest.param(("trio", {}), id="trio"),
]


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return request.param


@pytest.fixture(params=["readiness", "threads"])
def transport(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["fork", "forkserver", "spawn"])
def context(request: pytest.FixtureRequest) -> Iterator[BaseContext]:
    """One of the three ways to start a process."""
    with warnings.catch_warnings():
        if request.param == "fork":
            # Python 3.12 warns of every fork in a program with threads: so it should.
            warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
        yield multiprocessing.get_context(request.param)


@pytest.fixture
def fork() -> Iterator[BaseContext]:
    """The quickest way to start a process, where the way does not matter."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
        yield multiprocessing.get_context("fork")


@pytest.fixture(scope="session", autouse=True)
def helpers_are_there() -> Iterator[None]:
    """What multiprocessing and libuv start once and keep is no leak."""
    for loop in LOOPS:
        backend, options = loop.values[0]
        anyio.run(anyio.sleep, 0, backend=backend, backend_options=options)
    forkserver.ensure_running()
    resource_tracker.ensure_running()
    gc.collect()
    gc.freeze()  # what is there stays there: later collections need not look at it
    yield
    forkserver._forkserver._stop()


@pytest.fixture(autouse=True)
def nothing_is_left(helpers_are_there: None) -> Iterator[None]:
    with no_leaks():
        yield
        # Python 3.12's resource tracker warns if a semaphore is collected while it
        # notes down another: let that happen here instead.
        gc.collect()


@pytest.fixture(autouse=True)
def nothing_blocks() -> Iterator[BlockBuster]:
    with blockbuster_ctx() as detector:
        for name in ("recv", "recv_bytes", "send", "send_bytes"):
            blocking = f"multiprocessing.connection._ConnectionBase.{name}"
            detector.functions[blocking] = BlockBusterFunction(None, blocking)
        for blocking in ("join", "start"):
            name = f"multiprocessing.process.BaseProcess.{blocking}"
            detector.functions[name] = BlockBusterFunction(None, name)
        allow_what_does_not_block(detector)
        for function in detector.functions.values():
            function.can_block_in("bridge_peers.py", PEER_METHODS)
            function.can_block_in("aioipc/testing/leaks.py", {"now"})
            function.activate()
        yield detector


def allow_what_does_not_block(detector: BlockBuster) -> None:
    """Calls that look as if they blocked, with the reason why they don't."""
    # A queue's pipe is in blocking mode, for its other users. FIONREAD has said that
    # the bytes are there, POLLOUT that there is room.
    detector.functions["os.read"].can_block_in(
        "aioipc/transport/shared.py", {"_read_frame", "_read_part"}
    )
    detector.functions["os.write"].can_block_in(
        "aioipc/transport/shared.py", {"send_nowait"}
    )
    # The alarm pipe of a thread holds one byte at most; the thread only waits in poll.
    detector.functions["os.write"].can_block_in(
        "aioipc/transport/threads.py", {"close", "_request"}
    )
    detector.functions["threading.Lock.acquire"].can_block_in(
        "aioipc/transport/threads.py", {"close"}
    )
    # A line to multiprocessing's own helper, for each new semaphore.
    detector.functions["os.write"].can_block_in(
        "multiprocessing/resource_tracker.py", {"_send"}
    )
    # It has asked whether the exit code is there.
    detector.functions["os.read"].can_block_in(
        "multiprocessing/popen_forkserver.py", {"poll"}
    )
    detector.functions["os.write"].can_block_in(
        "aioipc/bridge/insides.py", {"end_line_for_resource_tracker"}
    )
    # Files of the kernel's, not a disk's
    detector.functions["io.TextIOWrapper.read"].can_block_in(
        "aioipc/pool/member.py", {"oom_kills"}
    )
    detector.functions["io.TextIOWrapper.read"].can_block_in(
        "aioipc/pool/pool.py", {"usable_cpus"}
    )
    # After the end of the process, this only forgets it.
    detector.functions["multiprocessing.process.BaseProcess.join"].can_block_in(
        "aioipc/bridge/process.py", {"join"}
    )
    detector.functions["multiprocessing.process.BaseProcess.join"].can_block_in(
        "aioipc/pool/member.py", {"_reap"}
    )


def pytest_report_header() -> str:
    return f"aioipc: {aioipc.__version__} from {aioipc.__path__[0]}"


def pytest_configure() -> None:
    if "AIOIPC_INSTALLED" in os.environ and "site-packages" not in aioipc.__path__[0]:
        pytest.exit(f"not the installed package: {aioipc.__path__[0]}", returncode=4)
