"""The connection of one pool with its cluster: made, found broken, given up."""

from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any
from uuid import uuid4

import distributed

from aioipc.dask.admission import InitializeLater, initialize, turn_away
from aioipc.dask.home import Home
from aioipc.dask.remote import dumps
from aioipc.dask.scheduler import Left, settle
from aioipc.errors import WorkerStartError
from aioipc.pool.outcomes import error_of
from aioipc.worker.failures import Failure

__all__ = ["Action", "Connection", "not_initialized"]

_dask: Any = distributed  # its Future has no full type

Action = tuple[Callable[..., object], tuple[Any, ...]]


class Connection:
    """One pool's client of Dask's.

    :param home: the way to the cluster
    :param initialize: a function and its arguments, for each worker
    :param begun: called with the number of a call that a worker has begun, and how many
        seconds before it said so
    :ivar client: once it is connected
    :ivar uid: of the pool, in all that its scheduler and workers know of it
    """

    def __init__(
        self, home: Home, initialize: Action | None, begun: Callable[[int, float], None]
    ) -> None:
        self.home = home
        self.client: Any = None
        self.uid = uuid4().hex
        self.topic = f"aioipc-{self.uid}"
        self._initialize = initialize
        self._begun = begun

    @property
    def is_open(self) -> bool:
        """Whether the scheduler can be reached, as far as is known."""
        return self.client is not None and self.client.status == "running"

    @property
    def threads(self) -> int:
        """How many tasks the whole cluster may be at, as last heard."""
        if self.client is None:
            return 0
        info = self.client.scheduler_info()
        threads = info.get("total_threads")
        if threads is None:  # as in older versions, which name all workers
            threads = sum(worker["nthreads"] for worker in info["workers"].values())
        return int(threads)

    async def open(self) -> None:
        """Connect, and have the workers initialized.

        :raises Exception: if that is impossible
        """
        self.client = await self.home.open()
        if self._initialize is not None:
            await self._prepare_workers(dumps(self._initialize))
        self.client.subscribe_topic(self.topic, self._hear)

    async def _prepare_workers(self, packed: bytes) -> None:
        """Call the initializer wherever there is a worker, or will be one.

        At first only where there is one. If it fails, it must not be known to those
        that come later: Dask gives up a worker whose plugin fails.
        """
        outcomes = await self.client.run(
            initialize, self.topic, packed, on_error="return"
        )
        for failure in outcomes.values():
            if isinstance(failure, Failure):
                raise not_initialized(failure)
            if failure is not None and not isinstance(failure, OSError):
                raise failure
        later = InitializeLater(self.topic, packed)
        await self.client.register_plugin(later, name=self.topic)

    def _hear(self, event: tuple[float, tuple[int, float]]) -> None:
        self._begun(*event[1])

    async def until_lost(self) -> None:
        """Return when the scheduler can't be reached any more."""
        while self.is_open:  # as it still is when someone has restarted the cluster
            # Dask cancels its futures then. There is no task of that name.
            alarm = _dask.Future(f"{self.topic}-{uuid4().hex}", self.client)
            with suppress(CancelledError):  # Dask's, not the loop's
                try:
                    await alarm.result()
                finally:
                    alarm.release()

    async def turn_away(self) -> None:
        """Have the workers begin no more calls."""
        await self.client.run(turn_away, self.topic, on_error="ignore")

    async def leave(self, left: list[Left]) -> None:
        """Have the scheduler forget the pool.

        :param left: of what it has shared
        """
        await self.client.run_on_scheduler(settle, self.topic, left)
        if self.home.client_is_kept:
            with suppress(ValueError):  # it did not come so far
                self.client.unsubscribe_topic(self.topic)
        if self._initialize is not None:
            with suppress(ValueError):
                await self.client.unregister_worker_plugin(self.topic)


def not_initialized(failure: Failure) -> WorkerStartError:
    """Return what is raised for an initializer that has failed."""
    error = WorkerStartError(
        f"the initializer of a worker raised {failure.kind}: {failure.text}"
    )
    error.__cause__ = error_of(failure, "the initializer")
    return error
