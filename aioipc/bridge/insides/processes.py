"""What `multiprocessing` hides of processes and their helper."""

# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

import os
from multiprocessing import get_start_method, resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any

from aioipc.bridge.handover import plain

__all__ = ["end_line_for_resource_tracker", "hand_over", "is_served_by_forkserver"]


def end_line_for_resource_tracker() -> None:
    """Keep what a task has written to multiprocessing's helper apart from what follows.

    The helper reads lines. It complains about one that makes no sense, and goes on.
    """
    fd: int | None = resource_tracker._resource_tracker._fd  # type: ignore[attr-defined]
    if fd is not None:
        os.write(fd, b"\n")


def is_served_by_forkserver(process: BaseProcess) -> bool:
    """Whether a process is the fork server's child, not ours."""
    popen: Any = process._popen  # type: ignore[attr-defined]
    return getattr(popen, "method", "") == "forkserver"


def hand_over(process: BaseProcess) -> None:
    """Have a process that is about to be forked get plain objects for awaitables.

    Where it is started otherwise its arguments are pickled, which does so, too.
    """
    own: str | None = getattr(process, "_start_method", None)
    if (own or get_start_method()) != "fork":
        return
    names = [name for name in ("_target", "_args", "_kwargs") if hasattr(process, name)]
    found = plain([getattr(process, name) for name in names])
    for name, value in zip(names, found, strict=True):
        setattr(process, name, value)
