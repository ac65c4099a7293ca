"""The one place that chooses how a descriptor is waited for."""

from typing import Literal

from aioipc.transport.loops import AsyncioLoop, Loop
from aioipc.transport.threads import ThreadWatch
from aioipc.transport.watches import AsyncioWatch, Direction, Step, TrioWatch, Watch

__all__ = ["Transport", "check_transport", "open_watch"]

Transport = Literal["readiness", "threads"]


def check_transport(transport: str | None) -> None:
    """Raise ValueError for a transport that does not exist."""
    if transport not in (None, "readiness", "threads"):
        msg = f"transport must be 'readiness', 'threads' or None, not {transport!r}"
        raise ValueError(msg)


def open_watch(
    loop: Loop, fd: int, direction: Direction, step: Step, transport: Transport | None
) -> Watch:
    """Return a watch for `fd` on `loop`.

    Readiness where the loop has it, a thread where not (Windows' proactor loop) or
    where `transport` asks for one.
    """
    if transport == "threads":
        return ThreadWatch(loop, fd, direction, step)
    if not isinstance(loop, AsyncioLoop):
        return TrioWatch(fd, direction, step)
    return AsyncioWatch(loop.loop, fd, direction, step)
