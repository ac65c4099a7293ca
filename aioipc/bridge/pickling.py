"""Pickling for a send: at once if it is small, in a thread if it is not."""

from aioipc.transport.threads import run_in_thread
from aioipc.wire.pickles import dumps_large

__all__ = ["dumps_off_loop"]


async def dumps_off_loop(item: object) -> list[bytes]:
    """Pickle in a thread; a cancel drops the result."""
    job = run_in_thread(lambda: dumps_large(item), "dumps")
    await job.wait()
    return job.result()
