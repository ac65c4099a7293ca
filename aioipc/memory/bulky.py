"""Which objects have a large buffer that a pickle can leave out.

Arrays of numpy, Arrow and their like say so themselves. `array.array` is taught it.
So are numpy's where it would copy them (`arrays`). `bytes` and `bytearray` can't be,
because pickle does not ask them: they are wrapped where they are an argument, or the
result itself.

This is all of `aioipc.memory` that a worker imports before it has to do with any.
"""

import array
import math
import pickle
from collections.abc import Callable
from typing import Any

from aioipc.memory.arrays import reducers
from aioipc.wire.pickles import NewPickler, new_pickler

__all__ = ["BULKY", "MARK", "is_bulky", "leaving_out", "size_of", "wrapper"]

BULKY = 1 << 16
"""Bytes from which on a buffer goes by way of an arena."""

_STEP = 1 << 20

_SIZED = (bytes, bytearray, str)

MARK = ord("B")
"""The byte with which a parcel begins (see `parcels`), and no pickle."""


def leaving_out(
    buffer_callback: Callable[[pickle.PickleBuffer], bool],
    new: NewPickler = new_pickler,
    most: float = math.inf,
) -> NewPickler:
    """Return what makes picklers that leave out the buffers that a callback takes.

    :param new: makes a pickler, which is to know more types than it does
    :param most: bytes that may be copied meanwhile, or they raise TooLarge
    """

    def make(file: Any) -> pickle.Pickler:
        # Each time: numpy may be there by now. (`Pickler` asks again, for numpy makes
        # itself known to copyreg.)
        known = {array.array: _reduce_array, **reducers(BULKY, most)}
        return new(file, known, protocol=5, buffer_callback=buffer_callback)

    return make


def is_bulky(value: object) -> bool:
    """Whether a value has a buffer that pickle does not ask for."""
    return isinstance(value, bytes | bytearray) and (
        len(value) >= BULKY and type(value) in {bytes, bytearray}
    )


def size_of(value: object) -> int:
    """Return the bytes of a value's own buffer, as far as it tells; 0 if not."""
    # By its type: an instance may answer to any name, or look for it far away.
    kind: type[Any] = type(value)
    try:
        if issubclass(kind, _SIZED):
            return len(value)  # type: ignore[arg-type]
        if not hasattr(kind, "nbytes"):
            return 0
        size: object = value.nbytes  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001 - whatever a property of the user's raises
        return 0
    return size if isinstance(size, int) else 0


def wrapper() -> Callable[[Any], Any]:
    """Return what makes of a value something that is pickled without its buffer.

    The same value becomes the same thing, so that what comes twice arrives as one.
    """
    known: dict[int, Any] = {}

    def wrapped(value: Any) -> Any:
        if not is_bulky(value):
            return value
        return known.setdefault(id(value), _Wrapped(value))

    return wrapped


class _Wrapped:
    __slots__ = ("_value",)

    def __init__(self, value: bytes | bytearray) -> None:
        self._value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return _itself, (pickle.PickleBuffer(self._value),)


def _itself(value: Any) -> Any:
    return value


def _reduce_array(value: "array.array[Any]") -> Any:
    """Take an array apart; for a pickler's dispatch table."""
    if len(value) * value.itemsize < BULKY:
        return value.__reduce_ex__(4)
    return _array, (value.typecode, pickle.PickleBuffer(value))


def _array(typecode: str, data: Any) -> "array.array[Any]":
    value: array.array[Any] = array.array(typecode)
    with memoryview(data) as whole:
        for start in range(0, len(whole), _STEP):  # each of which holds the GIL
            value.frombytes(whole[start : start + _STEP])
    return value
