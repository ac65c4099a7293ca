"""For the tests of those who use or extend aioipc."""

from aioipc.testing.inline import InlinePool
from aioipc.testing.leaks import LeakError, Leaks, no_leaks
from aioipc.testing.pools import PoolContract, PoolReport, check_pool

__all__ = [
    "InlinePool",
    "LeakError",
    "Leaks",
    "PoolContract",
    "PoolReport",
    "check_pool",
    "no_leaks",
]
