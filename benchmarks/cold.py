"""A program that wants one call's result: ``python cold.py aioipc|executor BEGAN``.

It prints the seconds from opening the pool to the result, once everything is imported,
and those from `began` (`time.perf_counter()` of who starts it), imports included.
"""

import asyncio
import math
import multiprocessing.forkserver
import sys
import time

METHOD = "forkserver"


async def aioipc_result(began: float) -> None:
    from aioipc import WorkerPool  # noqa: PLC0415 - that is measured, too

    opened = time.perf_counter()
    async with WorkerPool(2, mp_context=METHOD) as pool:
        await pool.run(math.factorial, 5)
        tell(opened, began)


async def executor_result(began: float) -> None:
    from concurrent.futures import ProcessPoolExecutor  # noqa: PLC0415

    opened = time.perf_counter()
    context = multiprocessing.get_context(METHOD)
    with ProcessPoolExecutor(2, context) as executor:
        run_in_executor = asyncio.get_running_loop().run_in_executor
        await run_in_executor(executor, math.factorial, 5)
        tell(opened, began)


def tell(opened: float, began: float) -> None:
    now = time.perf_counter()
    print(now - opened, now - began)


RESULTS = {"aioipc": aioipc_result, "executor": executor_result}

if __name__ == "__main__":
    asyncio.run(RESULTS[sys.argv[1]](float(sys.argv[2])))
