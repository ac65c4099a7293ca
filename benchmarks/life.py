"""What a pool costs before its first call is done, and while nobody calls."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from benchmarks import cold
from benchmarks.calls import warm_up
from benchmarks.loops import run_on

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.contestants import PoolContestant


@dataclass(frozen=True)
class FirstResult:
    """Seconds from nothing to the first result, in a program of its own.

    :param with_imports: from the program's start, else from the opening of the pool
    """

    with_imports: bool

    def __call__(self, contestant: PoolContestant) -> float:
        with tempfile.TemporaryDirectory() as bytecode:
            # As installed packages have it; this environment may not write it down.
            env = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode}
            env.pop("PYTHONDONTWRITEBYTECODE", None)
            self._run(contestant, env)
            return self._run(contestant, env)

    def _run(self, contestant: PoolContestant, env: dict[str, str]) -> float:
        who, now = (contestant.library, contestant.loop), str(time.perf_counter())
        call = [sys.executable, cold.__file__, *who, now]
        done = subprocess.run(call, env=env, check=True, stdout=subprocess.PIPE)
        return float(done.stdout.split()[self.with_imports])


@dataclass(frozen=True)
class IdleCPU:
    """Milliseconds of CPU in each second in which a pool has nothing to do.

    Those of its workers and helpers count too: everything in the process group that
    the measurement leads.
    """

    seconds: float

    def __call__(self, contestant: PoolContestant) -> float:
        return run_on(contestant.loop, self._run, contestant)

    async def _run(self, contestant: PoolContestant) -> float:
        async with contestant.open() as calls:
            await warm_up(calls)
            await anyio.sleep(0.3)  # what the last call left to do is done
            threads = _threads_of_group()
            before, started = _seconds(reversed(threads)), time.perf_counter()
            await anyio.sleep(self.seconds)
            used = _seconds(threads) - before
            return used * 1000 / (time.perf_counter() - started)


def _threads_of_group() -> list[Path]:
    """The CPU times of every thread of this process group, its own before others'.

    To look at them takes time, too: it must not count as time of the pool.
    """
    ours = os.getpgid(0)
    groups = ((_group(path), path) for path in Path("/proc").glob("[0-9]*"))
    processes = [path for group, path in groups if group == ours]
    processes.sort(key=lambda path: path.name != str(os.getpid()))
    return [it for path in processes for it in path.glob("task/*/schedstat")]


def _group(process: Path) -> int | None:
    with suppress(ProcessLookupError):  # it has ended meanwhile
        return os.getpgid(int(process.name))
    return None


def _seconds(threads: Iterable[Path]) -> float:
    nanoseconds = 0
    for thread in threads:
        with suppress(OSError):
            nanoseconds += int(thread.read_text().split()[0])
    return nanoseconds / 1e9
