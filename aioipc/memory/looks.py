"""Buffers in view: each is a private mapping of where the other side has written it.

Note to the next reader. Two things go on looking when nobody here seems to:

- A forked child has what its parent looked at, and may outlive it. So a fork first
  copies what is in view: parent and child have memory of their own from then on.
- The collector clears weak references to its garbage before it calls finalizers, which
  may look at a buffer, or even keep it. So the end of a look does not depend on one,
  but on a `_Token` that the collector does not know, and that goes when nothing refers
  to it.

Everything here may happen in any thread, and in the middle of anything else there. What
is in `_in_view` is alive; who takes a look out of it has the last reference. In a
worker no task is interrupted here (see `worker/interrupts.py`).
"""

import contextlib
import ctypes
import os
import sys
import threading
from typing import Any, Protocol

from aioipc.memory.file import File
from aioipc.memory.mapping import Mapping
from aioipc.memory.slots import size_of_slot

__all__ = ["are_too_many", "copy_what_is_left", "is_forking", "look", "sizes_of"]

_MOST = 16_000
"""Buffers in view, a quarter of the mappings that Linux lets a process have."""

_untrack = ctypes.pythonapi.PyObject_GC_UnTrack
_untrack.argtypes = (ctypes.py_object,)
_untrack.restype = None

_no_fork = threading.RLock()  # held while a fork is under way


class Owner(Protocol):
    """Whoever is to know when a buffer is out of view."""

    def spare(self, mapping: Mapping) -> None:
        """Have a mapping that no one looks at any more, before its slot is released."""
        ...

    def release(self, start: int) -> None:
        """Note that no one looks at a slot any more; from any thread."""
        ...


class _Look:
    """A buffer in view.

    :ivar owner: None once it is a copy
    :ivar is_pinned: whether its slot is not released with it
    """

    __slots__ = ("is_pinned", "mapping", "owner", "size")

    def __init__(self, owner: Owner, mapping: Mapping, size: int) -> None:
        self.owner: Owner | None = owner
        self.mapping = mapping
        self.size = size
        self.is_pinned = False

    def __del__(self, _is_at_exit: Any = sys.is_finalizing) -> None:
        # No one looks any more, although it is still mapped.
        if self.owner is not None and not self.is_pinned and not _is_at_exit():
            self.owner.spare(self.mapping)
            self.owner.release(self.mapping.start)


_in_view: dict[int, _Look] = {}  # by address


class _Token:
    __slots__ = ("_address",)

    def __init__(self, address: int) -> None:
        self._address = address
        _untrack(self)

    def __del__(self, _gone: Any = _in_view.pop) -> None:
        _gone(self._address, None)


def look(owner: Owner, file: File, start: int, size: int) -> memoryview:
    """Return a buffer that lies in a file, to be kept for as long as wanted.

    :raises OSError: if there are too many
    """
    if are_too_many():
        raise OSError
    slot = size_of_slot(size)
    array_type = _array_type(slot)
    with _no_fork:
        mapping = file.map(start, slot, private=True)
        array = array_type.from_address(mapping.address)
        array.token = _Token(mapping.address)  # on it, not on a memoryview:
        view = memoryview(array).cast("B")[:size]  # what is sliced lives on without
        _in_view[mapping.address] = _Look(owner, mapping, size)
    return view


def _array_type(size: int, _made: dict[int, Any] = {}) -> Any:  # noqa: B006
    """Return ctypes' type of an array; it takes long to make one."""
    array_type = _made.get(size)
    if array_type is None:
        array_type = _made[size] = ctypes.c_ubyte * size
    return array_type


def are_too_many() -> bool:
    """Whether no more buffers can be looked at."""
    return len(_in_view) >= _MOST


def is_forking() -> bool:
    """Whether `look` would have to wait, in another thread, for a fork."""
    if _no_fork.acquire(blocking=False):
        _no_fork.release()
        return False
    return True


def sizes_of(owner: Owner) -> dict[int, int]:
    """Return where the owner's buffers in view start, and how many bytes they take."""
    looks = [look for look in _in_view.copy().values() if look.owner is owner]
    return {look.mapping.start: look.size for look in looks}


def copy_what_is_left(owner: Owner, at_most: int) -> None:
    """Make what is in view of an owner's this process's own, if it is that little.

    Its file is then needed no more. With a single look it is not, in any case.
    """
    with _no_fork:
        looks = [look for look in _in_view.copy().values() if look.owner is owner]
        if len(looks) > 1 and sum(look.size for look in looks) <= at_most:
            _copy(looks)


def _copy_all() -> None:
    """Make what is in view this process's own, for a child that is about to be."""
    _no_fork.acquire()
    _copy([look for look in _in_view.copy().values() if look.owner is not None])


def _copy(looks: list[_Look]) -> None:
    fresh = [look for look in looks if not look.is_pinned]
    for look in fresh:  # first of all: what can't be copied is never released
        look.is_pinned = True
    for look in fresh:
        with contextlib.suppress(OSError):
            look.mapping.copy(look.size)
            owner, look.owner = look.owner, None
            if owner is not None:
                owner.release(look.mapping.start)


os.register_at_fork(
    before=_copy_all,
    after_in_parent=_no_fork.release,
    after_in_child=_no_fork.release,
)
