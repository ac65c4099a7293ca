"""Which pools are aioipc's peers, and in which groups the cases call them up."""

from benchmarks.contestants.aiomultiprocess import AIOMULTIPROCESS
from benchmarks.contestants.anyio import ANYIO_TO_PROCESS
from benchmarks.contestants.dask import DASK
from benchmarks.contestants.executor import EXECUTOR
from benchmarks.contestants.joblib import JOBLIB
from benchmarks.contestants.loky import LOKY
from benchmarks.contestants.mpire import MPIRE
from benchmarks.contestants.pebble import PEBBLE
from benchmarks.contestants.stdlib import MULTIPROCESSING
from benchmarks.contestants.trio_parallel import TRIO_PARALLEL

PEERS = [LOKY, PEBBLE, ANYIO_TO_PROCESS]
"""Whose single calls are awaited on asyncio: targets are set beside these."""

OTHERS = [MULTIPROCESSING, MPIRE, AIOMULTIPROCESS, TRIO_PARALLEL, DASK]
"""Which can't be awaited, or not on asyncio, or are made for other things."""

EVERYONE = [EXECUTOR, *PEERS, *OTHERS]

__all__ = ["DASK", "EVERYONE", "EXECUTOR", "JOBLIB", "OTHERS", "PEERS"]
