"""For the tests of those who use or extend aioipc."""

from aioipc.testing.leaks import LeakError, Leaks, no_leaks
from aioipc.testing.pools import PoolContract

__all__ = ["LeakError", "Leaks", "PoolContract", "no_leaks"]
