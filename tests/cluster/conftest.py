"""Pools of a Dask cluster that is a program of its own; on asyncio and uvloop."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dask_views import client_of

from aioipc.dask import DaskPool

PROGRAM = Path(__file__).parent.parent / "dask_cluster.py"
LOOPS = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
]


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return request.param


@pytest.fixture(autouse=True)
def nothing_blocks() -> None:
    """Dask's client reads files and resolves names in its loop."""


class Program:
    """A cluster that is a program of its own.

    :ivar address: of its scheduler
    """

    def __init__(self, workers: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, PROGRAM, str(workers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        self.address = self._process.stdout.readline().strip()

    def kill(self) -> None:
        self._process.kill()
        self.end()

    def end(self) -> None:
        with self._process as process:
            assert process.stdin
            process.stdin.close()


@pytest.fixture
def new_cluster() -> Iterator[type[Program]]:
    """Start clusters that a test may kill, with so many workers."""
    programs: list[Program] = []

    class New(Program):
        def __init__(self, workers: int) -> None:
            super().__init__(workers)
            programs.append(self)

    yield New
    for program in programs:
        program.end()


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of three workers."""
    program = Program(3)
    yield program.address
    program.end()


@pytest.fixture(scope="module")
def small_cluster() -> Iterator[str]:
    """The address of a cluster of two workers."""
    program = Program(2)
    yield program.address
    program.end()


async def there_are_workers(pool: DaskPool, count: int = 3) -> None:
    """Wait for those that were killed before to be replaced."""
    await client_of(pool).wait_for_workers(count, timeout=30)


@pytest.fixture
async def pool(cluster: str):
    async with DaskPool(cluster, 2, grace=0.2) as pool:
        await there_are_workers(pool)
        yield pool


@pytest.fixture
async def whole(cluster: str):
    """The pool of all that the cluster has."""
    async with DaskPool(cluster, grace=0.2) as pool:
        await there_are_workers(pool)
        yield pool


@pytest.fixture
async def small(small_cluster: str):
    """The pool of all that a cluster of two workers has."""
    async with DaskPool(small_cluster, grace=0.2) as pool:
        await there_are_workers(pool, 2)
        yield pool
