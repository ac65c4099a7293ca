"""A program that wants one call's result: ``python cold.py LIBRARY LOOP BEGAN``.

It prints the seconds from opening the pool to the result, once everything is imported,
and those from `began` (`time.perf_counter()` of who starts it), imports included.
Each library is written down as its users would: a program that wants to start soon
imports nothing else.
"""

import asyncio
import math
import multiprocessing.forkserver
import sys
import time

METHOD = "forkserver"
CALL = (math.factorial, 5)


async def aioipc_result(began: float) -> None:
    from aioipc import WorkerPool  # noqa: PLC0415 - that is measured, too

    opened = time.perf_counter()
    async with WorkerPool(2, mp_context=METHOD) as pool:
        await pool.run(*CALL)
        tell(opened, began)


async def executor_result(began: float) -> None:
    from concurrent.futures import ProcessPoolExecutor  # noqa: PLC0415

    opened = time.perf_counter()
    context = multiprocessing.get_context(METHOD)
    with ProcessPoolExecutor(2, context) as executor:
        await in_executor(executor)
        tell(opened, began)


async def loky_result(began: float) -> None:
    from loky import ProcessPoolExecutor  # noqa: PLC0415

    opened = time.perf_counter()
    executor = ProcessPoolExecutor(2)
    await in_executor(executor)
    tell(opened, began)
    executor.shutdown(kill_workers=True)


async def in_executor(executor: object) -> None:
    await asyncio.get_running_loop().run_in_executor(executor, *CALL)


async def pebble_result(began: float) -> None:
    from pebble import ProcessPool  # noqa: PLC0415

    opened = time.perf_counter()
    context = multiprocessing.get_context(METHOD)
    with ProcessPool(2, context=context) as pool:
        await asyncio.wrap_future(pool.schedule(CALL[0], CALL[1:]))
        tell(opened, began)


async def multiprocessing_result(began: float) -> None:

    opened = time.perf_counter()
    with multiprocessing.get_context(METHOD).Pool(2) as pool:
        pool.apply(CALL[0], CALL[1:])
        tell(opened, began)


async def mpire_result(began: float) -> None:
    from mpire import WorkerPool  # noqa: PLC0415

    opened = time.perf_counter()
    with WorkerPool(2, start_method=METHOD) as pool:
        pool.apply(CALL[0], CALL[1:])
        tell(opened, began)


async def anyio_result(began: float) -> None:
    from anyio import to_process  # noqa: PLC0415

    opened = time.perf_counter()
    await to_process.run_sync(*CALL)
    tell(opened, began)


async def trio_parallel_result(began: float) -> None:
    from trio_parallel import run_sync  # noqa: PLC0415

    opened = time.perf_counter()
    await run_sync(*CALL)
    tell(opened, began)


async def factorial(n: int) -> int:
    return math.factorial(n)


async def aiomultiprocess_result(began: float) -> None:
    import aiomultiprocess  # noqa: PLC0415

    opened = time.perf_counter()
    aiomultiprocess.set_start_method(METHOD)
    async with aiomultiprocess.Pool(2) as pool:
        await pool.apply(factorial, CALL[1:])
        tell(opened, began)


async def dask_result(began: float) -> None:
    from distributed import Client, LocalCluster  # noqa: PLC0415

    opened = time.perf_counter()
    options = {"threads_per_worker": 1, "dashboard_address": None}
    async with (
        LocalCluster(n_workers=2, asynchronous=True, **options) as cluster,
        Client(cluster, asynchronous=True) as client,
    ):
        await client.submit(*CALL).result()
        tell(opened, began)


def tell(opened: float, began: float) -> None:
    now = time.perf_counter()
    print(now - opened, now - began, flush=True)


RESULTS = {
    "aioipc": aioipc_result,
    "ProcessPoolExecutor": executor_result,
    "loky": loky_result,
    "pebble": pebble_result,
    "multiprocessing.Pool": multiprocessing_result,
    "mpire": mpire_result,
    "anyio.to_process": anyio_result,
    "trio-parallel": trio_parallel_result,
    "aiomultiprocess": aiomultiprocess_result,
    "Dask": dask_result,
}

if __name__ == "__main__":
    library, loop, started = sys.argv[1], sys.argv[2], float(sys.argv[3])
    if loop == "trio":
        import trio

        trio.run(RESULTS[library], started)
    elif loop == "uvloop":
        import uvloop

        uvloop.run(RESULTS[library](started))
    else:
        asyncio.run(RESULTS[library](started))
