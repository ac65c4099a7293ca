"""Where the cluster is: at an address, somebody's client or cluster, or on our own."""

import asyncio
import logging
import os
import signal
from contextlib import suppress
from typing import Any

from distributed import Client, LocalCluster, Status
from distributed.deploy.cluster import Cluster

__all__ = ["Home", "Where"]

_log = logging.getLogger(__name__)

TENDING = 2.0
"""Seconds between two looks at whether the pool's own cluster has all its workers."""

_HASTE = 0.2
"""Seconds that a worker has to end by itself when there is no time."""

Where = str | Client | Cluster | None
"""An address, an asynchronous client, a cluster, or None for a new one."""


class Home:
    """A way to a cluster, for one pool on one run of a loop.

    :param where: it is
    :param processes: that a new one has
    :param seconds: that it may take to connect
    :ivar cluster: if it is a new one
    :ivar is_in_haste: whether tasks that still run are to be killed with their workers
    """

    def __init__(self, where: Where, processes: int, seconds: float) -> None:
        self._where = where
        self._processes = processes
        self._seconds = seconds
        self.cluster: Any = None
        self.client: Any = None
        self.is_in_haste = False
        self._starting: asyncio.Task[None] | None = None

    @property
    def is_own(self) -> bool:
        """Whether the cluster is the pool's."""
        return self._where is None

    @property
    def client_is_kept(self) -> bool:
        """Whether the client is somebody's who goes on with it."""
        return self.client is self._where

    def __str__(self) -> str:
        if self._where is None:
            return "its own cluster"
        if isinstance(self._where, Client):
            scheduler: Any = self._where.scheduler
            return str(scheduler.address if scheduler else "no cluster")
        address = self._where
        return str(getattr(address, "scheduler_address", address))

    async def open(self) -> Any:
        """Return a client that is connected.

        :raises Exception: if that is impossible
        """
        if isinstance(self._where, Client) and not self._where.asynchronous:
            raise TypeError("a DaskPool needs a Client(..., asynchronous=True)")
        if self._where is None:
            self._starting = asyncio.ensure_future(self._start())
            await asyncio.shield(self._starting)
        try:
            async with asyncio.timeout(self._seconds):
                return await self._connect()
        except TimeoutError:
            raise TimeoutError(f"no answer within {self._seconds:g} s") from None

    async def _start(self) -> None:
        self.cluster = LocalCluster(
            n_workers=self._processes,
            threads_per_worker=1,
            # None is the fixed port of a dashboard, even where there is none.
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            asynchronous=True,
        )
        await self.cluster

    async def _connect(self) -> Any:
        if isinstance(self._where, Client):
            self.client = self._where
        else:
            cluster = self.cluster or self._where
            self.client = Client(
                getattr(cluster, "scheduler_address", cluster),
                asynchronous=True,
                set_as_default=False,
                timeout=self._seconds,
                security=getattr(cluster, "security", None),
            )
        return await self.client

    async def tend(self) -> None:
        """Replace workers of the pool's own cluster that are gone for good.

        A nanny starts its worker again, but closes itself if that fails. And a cluster
        gives up a worker that is not there when it looks for it, 15 s after it died: it
        may just have died again.
        """
        while self.cluster is not None:
            await asyncio.sleep(TENDING)
            try:
                await self._replace_workers()
            except Exception:  # noqa: BLE001 - e.g. another one can't start either
                _log.warning("%s lacks workers", self, exc_info=True)

    async def _replace_workers(self) -> None:
        workers: dict[object, Any] = self.cluster.workers
        gone = [name for name, it in workers.items() if it.status == Status.closed]
        if gone:
            await self.cluster.scale_down(gone)
        if len(workers) < self._processes:
            self.cluster.scale(self._processes)

    async def close(self) -> None:
        """Leave what is another's; end what is the pool's."""
        if self._starting is not None:
            # One that is cut short leaves processes that no one knows of.
            await asyncio.wait({self._starting})
        if self.is_in_haste and self.cluster is not None:
            nannies = self.cluster.workers.values()
            await asyncio.gather(
                *(nanny.close(timeout=_HASTE) for nanny in nannies),
                return_exceptions=True,
            )
        if self.client is not None and not self.client_is_kept:
            await self.client.close()
        if self.cluster is not None:
            await self.cluster.close()

    def grow(self, processes: int) -> None:
        """Start the processes of the pool's own cluster that are missing."""
        self._processes = max(self._processes, processes)
        if self.cluster is not None:
            self.cluster.scale(self._processes)

    def kill(self) -> None:
        """End the processes of the pool's own cluster that are left, at once."""
        if self.cluster is not None:
            for nanny in self.cluster.workers.values():
                nanny.close_gracefully()  # or it would start another worker
                if nanny.pid is not None:
                    with suppress(ProcessLookupError):
                        os.kill(nanny.pid, signal.SIGKILL)
