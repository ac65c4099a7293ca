"""Every async test runs on three loops, every bridge test over both transports.

After every test nothing may be left behind, and a call that blocks the loop fails it.
"""

import gc
import multiprocessing
import os
import re
import signal
import threading
import time
import warnings
import zlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import BaseContext
from multiprocessing.managers import SyncManager
from pathlib import Path

import anyio
import hypothesis
import pytest
from blockbuster import BlockBuster, BlockBusterFunction, blockbuster_ctx
from broker_served import Served

import aioipc
from aioipc.testing import no_leaks
from aioipc.transport import threads

# The same examples in every run, so that what fails is what was changed. To look for
# others: `pytest --hypothesis-profile=explore`.
hypothesis.settings.register_profile("aioipc", deadline=None, derandomize=True)
hypothesis.settings.register_profile("explore", deadline=None, derandomize=False)
hypothesis.settings.load_profile("aioipc")

PEER_METHODS = {
    *("send", "send_bytes", "recv", "recv_bytes", "write", "resident"),
    *("exists", "mode", "descriptors"),
}

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


@pytest.fixture(
    params=["fork", "forkserver", pytest.param("spawn", marks=pytest.mark.slow)]
)
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


@pytest.fixture(scope="module")
def plain_manager(helpers_are_there: None) -> Iterator[SyncManager]:
    """The standard library's; one for all tests of a file."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
        manager = multiprocessing.get_context("fork").Manager()
    with manager:
        yield manager


@pytest.fixture
def served() -> Iterator[Served]:
    """A broker, whose loop runs in a thread."""
    served = Served()
    yield served
    served.close()


@pytest.fixture
def quick_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Service threads end as soon as they have nothing to do."""
    monkeypatch.setattr(threads, "LINGER", 0.01)
    yield
    end = time.monotonic() + 3
    while any(t.name.startswith("aioipc") for t in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.fixture
async def pool(fork: BaseContext) -> AsyncIterator[aioipc.WorkerPool]:
    async with aioipc.WorkerPool(2, mp_context=fork, grace=0.2) as pool:
        yield pool


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """Where a task tells that it has begun, and a test waits for that."""
    path = tmp_path / "begun"
    os.mkfifo(path)
    return path


@pytest.fixture(scope="session", autouse=True)
def sigint_is_heard() -> Iterator[None]:
    """By programs that tests start, also where a shell has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def helpers_are_there() -> Iterator[None]:
    """What multiprocessing and libuv start once and keep is no leak."""
    for loop in LOOPS:
        backend, options = loop.values[0]
        anyio.run(anyio.sleep, 0, backend=backend, backend_options=options)
    forkserver.ensure_running()
    resource_tracker.ensure_running()
    multiprocessing.RawValue("i")  # the first makes the file that they are all in
    yield
    forkserver._forkserver._stop()


@pytest.fixture(scope="module", autouse=True)
def what_is_there_stays(helpers_are_there: None) -> None:
    """Keep what pytest has gathered so far out of the collections to come.

    There is one after each test, and it would take longer from test to test.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_is_left(what_is_there_stays: None) -> Iterator[None]:
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
            function.can_block_in("broker_peers.py", {"is_stopped", "lines_of"})
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
        "aioipc/bridge/insides/processes.py", {"end_line_for_resource_tracker"}
    )
    # Files of the kernel's, not a disk's
    detector.functions["io.TextIOWrapper.read"].can_block_in(
        "aioipc/pool/member.py", {"oom_kills"}
    )
    detector.functions["io.TextIOWrapper.read"].can_block_in(
        "aioipc/pool/limits.py", {"_read"}
    )
    # Names in a directory, of files that hold no data
    detector.functions["os.unlink"].can_block_in(
        "aioipc/transport/listening.py", {"remove_file"}
    )
    detector.functions["os.unlink"].can_block_in("aioipc/bridge/listener.py", {"close"})
    detector.functions["os.mkdir"].can_block_in(
        "multiprocessing/util.py", {"get_temp_dir"}
    )
    # After the end of the process, this only forgets it.
    detector.functions["multiprocessing.process.BaseProcess.join"].can_block_in(
        "aioipc/bridge/process.py", {"join"}
    )
    detector.functions["multiprocessing.process.BaseProcess.join"].can_block_in(
        "aioipc/pool/member.py", {"_reap"}
    )


@pytest.hookimpl(tryfirst=True)  # before those that are slow are left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the product of loops with all else to the whole suite.

    In the core a test runs on one loop and with one way to start a process, drawn by
    its name: so all of them are there. A transport has its loops: uvloop is one where
    descriptors are watched, in which it differs from asyncio.
    """
    ways: defaultdict[str, set[str]] = defaultdict(set)
    for item in items:
        ways[_name(item)] |= _chosen(item) & {"fork", "forkserver"}
    for item in items:
        draw = zlib.crc32(_name(item).encode())
        chosen = _chosen(item)
        way = sorted(ways[_name(item)])
        loops = ["asyncio", "trio"]
        if "cluster" in item.path.parts or "threads" in chosen:
            loops = ["asyncio"]
        elif "readiness" in chosen:
            loops = ["asyncio", "trio", "uvloop"]
        drawn = {loops[draw % len(loops)]}
        if way:
            drawn.add(way[draw // 6 % len(way)])
        if chosen & {"asyncio", "trio", "uvloop", *way} - drawn:
            item.add_marker(pytest.mark.slow)


def _name(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


def _chosen(item: pytest.Item) -> set[str]:
    """Return what its parameters are."""
    named = re.search(r"\[(.*)\]", item.name)
    return {*named[1].split("-")} if named else set()


def pytest_report_header() -> str:
    return f"aioipc: {aioipc.__version__} from {aioipc.__path__[0]}"


def pytest_configure() -> None:
    if "AIOIPC_INSTALLED" in os.environ and "site-packages" not in aioipc.__path__[0]:
        pytest.exit(f"not the installed package: {aioipc.__path__[0]}", returncode=4)
