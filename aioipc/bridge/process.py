"""`AsyncProcess`: a `multiprocessing.Process`, awaited. It never outlives its block."""

import os
from collections.abc import Callable, Iterable, Mapping
from multiprocessing import get_context
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, Self

import anyio

from aioipc.bridge.insides.processes import hand_over, is_served_by_forkserver
from aioipc.transport.choice import Transport, check_transport, open_watch
from aioipc.transport.forks import starting
from aioipc.transport.loops import NOWHERE, Loop, settle
from aioipc.transport.threads import Job, run_in_thread
from aioipc.transport.turns import Turn

if TYPE_CHECKING:
    from types import TracebackType

    from aioipc.transport.watches import Watch

__all__ = ["AsyncProcess", "Process"]

GRACE = 5.0
"""Seconds that a process has to end between SIGTERM and SIGKILL."""

_REAPING = 1.0  # seconds between the end of a process and its exit code, at most


class AsyncProcess:
    """A `multiprocessing.Process`, awaited.

    As a context manager it starts the process, and joins it on leaving. On an exception
    or a cancel it terminates it, kills it after `grace` seconds, and reaps it, whatever
    else happens: a process never outlives its block.

    Get one from `Process` or `wrap`.

    :param process: started or not
    :param grace: seconds
    :param transport: how to wait for the end: ``"readiness"``, ``"threads"`` or None
    """

    def __init__(
        self,
        process: BaseProcess,
        *,
        grace: float = GRACE,
        transport: Transport | None = None,
    ) -> None:
        check_transport(transport)
        self._process = process
        self._grace = grace
        self._transport: Transport | None = transport
        self._loop: Loop = NOWHERE
        self._watch: Watch
        self._turn = Turn()
        self._pidfd = -1
        self._closed = False

    async def start(self) -> None:
        """Start the process, in a thread.

        Awaitables in its arguments are replaced by the plain objects that they stand
        for: see `Process`.

        If it is cancelled, the process is killed and reaped as soon as it is there, and
        the cancel goes on after that.
        """
        process = self._process
        hand_over(process)

        def start() -> None:
            with starting():
                process.start()

        def undo() -> None:
            if job.succeeded:
                process.kill()
                process.join()

        job = run_in_thread(start, "start")
        try:
            await job.wait()
        except BaseException as error:
            undoing = Job(undo)
            job.then(lambda: undoing.start("undo start"))
            if isinstance(error, GeneratorExit):
                raise  # from outside of a loop
            # asyncio's own cancel goes through the shield, and means: no more waiting.
            with anyio.CancelScope(shield=True):
                await undoing.wait()
            raise
        job.result()

    async def join(self, timeout: float | None = None) -> int | None:
        """Wait until the process has ended, and return its exit code.

        A cancel leaves the process running.

        :param timeout: seconds to wait at most, for ever if None
        :returns: the exit code, -N if signal N killed it, None if it is still running
        :raises ValueError: if it has not been started
        """
        if self._process.pid is None:
            raise ValueError(f"{self!r} has not been started")
        with anyio.move_on_after(timeout):
            await self._wait()
        exitcode = self._process.exitcode
        if exitcode is not None:
            self._process.join()  # does not wait, but forgets the child
            if not self._turn.taken:  # or else whoever has it does this
                self._leave_loop()
        return exitcode

    def terminate(self) -> None:
        """Ask the process to end, by SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """End the process, by SIGKILL."""
        self._process.kill()

    def is_alive(self) -> bool:
        """Return whether the process is running."""
        return self._process.is_alive()

    def close(self) -> None:
        """Release what belongs to the process.

        :raises ValueError: if it is running
        """
        self._process.close()
        self._closed = True
        self._leave_loop()

    @property
    def sync(self) -> BaseProcess:
        """The `multiprocessing.Process` itself."""
        return self._process

    @property
    def name(self) -> str:
        """The name of the process."""
        return self._process.name

    @property
    def daemon(self) -> bool:
        """Whether the process is killed when this program ends."""
        return self._process.daemon

    @property
    def pid(self) -> int | None:
        """The process id; None before the start."""
        return self._process.pid

    @property
    def exitcode(self) -> int | None:
        """The exit code, -N if signal N killed it, None before the end."""
        return self._process.exitcode

    @property
    def sentinel(self) -> int:
        """A descriptor that is ready when the process has ended."""
        return self._process.sentinel

    def __repr__(self) -> str:
        return f"<Async{repr(self._process).removeprefix('<')}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: "type[BaseException] | None",
        exc_value: BaseException | None,
        traceback: "TracebackType | None",
    ) -> None:
        if self._closed:
            return
        try:
            if exc_type is None:
                await self.join()
        finally:
            try:
                await self._end()
            finally:
                self._leave_loop()

    def __del__(self) -> None:
        if getattr(self, "_pidfd", -1) >= 0:
            self._leave_loop()

    async def _end(self) -> None:
        """Have the process ended and reaped, whatever cancels come meanwhile."""
        process = self._process
        if process.exitcode is not None:
            return
        process.terminate()
        try:
            # asyncio's own cancel goes through the shield, and means: no more waiting.
            with anyio.CancelScope(shield=True):
                await self.join(self._grace)
        finally:
            if process.exitcode is None:
                process.kill()
                reaping = run_in_thread(process.join, "reap")
                with anyio.CancelScope(shield=True):
                    await reaping.wait()

    async def _wait(self) -> None:
        if self._process.exitcode is not None:
            return
        try:
            if not self._loop.is_current():
                self._move()
        except ProcessLookupError:
            await self._be_reaped()
            return
        turn = self._turn
        if turn.taken:
            await turn.wait()
        turn.taken = True
        try:
            if self._process.exitcode is None:
                await self._watch.wait()
                await self._be_reaped()
        finally:
            turn.pass_on()

    async def _be_reaped(self) -> None:
        """Wait for the exit code of a process that has ended.

        Another thread may have it from the kernel and not have noted it yet: whenever a
        process is started, multiprocessing reaps all those that have ended.
        """
        with anyio.move_on_after(_REAPING):
            while self._process.exitcode is None:  # noqa: ASYNC110 - no one tells us
                await anyio.sleep(0.001)

    def _move(self) -> None:
        loop = settle(self._loop, f"<process {self.name}>")
        self._leave_loop()
        self._turn = Turn()
        fd = self._process.sentinel
        if not is_served_by_forkserver(self._process):
            # The sentinel is a pipe, which the children of a worker inherit.
            assert self._process.pid is not None
            self._pidfd = fd = os.pidfd_open(self._process.pid)
        self._watch = open_watch(loop, fd, "read", lambda: True, self._transport)
        self._loop = loop

    def _leave_loop(self) -> None:
        if self._loop is not NOWHERE:
            self._loop = NOWHERE
            self._watch.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


def Process(  # noqa: N802 - multiprocessing's name
    group: None = None,
    target: Callable[..., object] | None = None,
    name: str | None = None,
    args: Iterable[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    daemon: bool | None = None,
    context: BaseContext | None = None,
    grace: float = GRACE,
    transport: Transport | None = None,
) -> AsyncProcess:
    """Return a `multiprocessing.Process` to await.

    Awaitables among the arguments arrive in the worker as the plain objects that they
    stand for, however it is started, wherever in the arguments they are: in lists,
    tuples, dicts, sets, partial functions, in attributes of objects, or of the object
    whose method is the target. The worker gets copies of what has an awaitable in it,
    made at the start.

    Under fork a worker has its parent's globals and closures, too, and in these are the
    awaitables themselves: use their `sync` there. It is the same with the attributes of
    a Process subclass, and of objects that say themselves how they are pickled or have
    a `__del__`.

    :param grace: seconds between SIGTERM and SIGKILL, when its block is left early
    """
    factory: Any = context or get_context()
    process: BaseProcess = factory.Process(
        group,
        target,
        name,
        tuple(args),
        dict(kwargs or {}),
        daemon=daemon,
    )
    return AsyncProcess(process, grace=grace, transport=transport)
