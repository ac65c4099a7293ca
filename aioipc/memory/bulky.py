"""Which objects have a large buffer that a pickle can leave out.

Arrays of numpy, Arrow and their like say so themselves. `array.array` is taught it.
`bytes` and `bytearray` can't be, because pickle does not ask them: they are wrapped
where they are an argument, or the result itself.

This is all of `aioipc.memory` that a worker imports before it has to do with any.
"""

import array
import pickle
from typing import Any

__all__ = ["BULKY", "MARK", "reduce_array", "wrapped"]

BULKY = 1 << 16
"""Bytes from which on a buffer goes by way of an arena."""

MARK = ord("B")
"""The byte with which a parcel begins (see `parcels`), and no pickle."""


def wrapped(value: Any) -> Any:
    """Return what is pickled as `value` without its buffer, or `value` itself."""
    if type(value) in {bytes, bytearray} and len(value) >= BULKY:
        return _Wrapped(value)
    return value


class _Wrapped:
    __slots__ = ("_value",)

    def __init__(self, value: bytes | bytearray) -> None:
        self._value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return _itself, (pickle.PickleBuffer(self._value),)


def _itself(value: Any) -> Any:
    return value


def reduce_array(value: "array.array[Any]") -> Any:
    """Take an `array.array` apart; for a pickler's dispatch table."""
    if len(value) * value.itemsize < BULKY:
        return value.__reduce_ex__(4)
    return _array, (value.typecode, pickle.PickleBuffer(value))


def _array(typecode: str, data: Any) -> "array.array[Any]":
    value: array.array[Any] = array.array(typecode)
    value.frombytes(data)
    return value
