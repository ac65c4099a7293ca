"""`ShutDown`: Python 3.13's word for a queue that takes, or has, no more items."""

import sys

__all__ = ["ShutDown"]

if sys.version_info >= (3, 13):
    from queue import ShutDown
else:

    class ShutDown(Exception):
        """The queue is shut down; raised by `get` only when it is empty, too."""
