"""Tools for testing programs that use aioipc, and aioipc itself."""

from aioipc.testing.leaks import LeakError, Leaks, no_leaks

__all__ = ["LeakError", "Leaks", "no_leaks"]
