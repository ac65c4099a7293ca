"""A program without the ``__main__`` guard: one clear error, not a storm of processes.

Under spawn and forkserver a worker imports the program's main module. If that uses a
pool when it is imported, each worker would start workers.
"""

import os
from multiprocessing import process

from aioipc.pool.member import PROCESS_NAME

__all__ = ["GUARD_EXIT_CODE", "GUARD_MESSAGE", "check_guard"]

GUARD_EXIT_CODE = 77

GUARD_MESSAGE = """\
the program's main module uses a pool when it is imported, which its workers do. Write

    if __name__ == "__main__":
        anyio.run(main)

so that only the program itself does it"""


def check_guard() -> None:
    """Refuse to start workers in a process that is still importing its main module.

    A worker of ours ends there: its pool then tells why.
    """
    current = process.current_process()
    if not getattr(current, "_inheriting", False):
        return
    if current.name == PROCESS_NAME:
        os._exit(GUARD_EXIT_CODE)
    raise RuntimeError(GUARD_MESSAGE)
