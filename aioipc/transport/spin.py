"""Whether to look for an answer a while longer, before going to sleep.

To be woken on a halted CPU takes 30 to 45 µs, and even where both processes share a CPU
asyncio's loop takes 4 µs to go to sleep and come back. So a task that has just sent
looks for the answer a little longer, if that has been the quicker way lately.

Meanwhile the loop can do nothing else. So after `BUDGET` seconds of it the next answer
is waited for in the loop, which shows how long that takes; and if it is no slower (the
loop has other work, and does not sleep anyway), there is no looking for `REST` answers.
"""

import os
from collections.abc import Callable
from time import perf_counter

__all__ = ["BUDGET", "REST", "SPIN", "Spin"]

SPIN = 1e-4
"""Seconds that one answer is looked for at most."""

BUDGET = 2e-4
"""Seconds of looking before the loop gets its turn."""

REST = 64
"""Answers waited for in the loop when looking for them was no use."""

AT_ONCE = 16
"""Answers found at the first look before the loop gets its turn."""

_GAIN = 0.9  # of the time through the loop: looking must take less
_NEW = 0.25  # weight of the latest time in each of the averages


class Spin:
    """How long answers took lately, by looking for them and through the loop.

    :ivar left: how many more may be found at the first look
    :ivar again: whether to look for the next one
    """

    __slots__ = ("_budget", "_looked", "_looped", "_rest", "again", "left")

    def __init__(self) -> None:
        self.left = AT_ONCE
        self.again = False
        self._budget = 0.0
        self._rest = 0
        self._looked = 0.0
        self._looped = SPIN  # until it is known better, looking is worth a try

    def look(self, step: Callable[[], bool]) -> bool:
        """Look for an answer until `step` returns True, or it is too late.

        :returns: whether it did; then `again` is whether to look for the next
        """
        since = now = perf_counter()
        while now < since + SPIN:
            os.sched_yield()  # to whoever wants this CPU
            found = step()
            now = perf_counter()
            if found:
                self.again = self.looked(now - since)
                return True
        self.looked(SPIN)
        self.again = False
        return False

    def looped(self, seconds: float, *, alone: bool) -> bool:
        """Note an answer that came through the loop; True to look for the next.

        :param alone: whether the loop has brought nothing to others meanwhile
        """
        self._looped += (min(seconds, 2 * SPIN) - self._looped) * _NEW
        if self._rest:
            self._rest -= 1
            return False
        if not alone or seconds > SPIN:
            return False
        at_once, self.left = AT_ONCE - self.left, AT_ONCE
        if self._looked > self._looped * _GAIN and not at_once:
            self._rest = REST
            self._looked = 0.0
            return False
        self._budget = BUDGET
        return True

    def looked(self, seconds: float) -> bool:
        """Note an answer that took some looking; True to look for the next."""
        self._looked += (seconds - self._looked) * _NEW
        self._budget -= seconds
        return self._budget > 0
