"""Copying bytes without keeping other threads from running.

A copy by Python's own means holds the GIL: 100 MB would stop an event loop for 15 ms.
"""

import ctypes
import pickle
from collections.abc import Sequence
from typing import Any

__all__ = ["copy", "join", "new_bytearray"]


class _View(ctypes.Structure):
    """`Py_buffer`, from CPython's `pybuffer.h`; the same in the stable ABI."""

    _fields_ = (
        ("address", ctypes.c_void_p),
        ("owner", ctypes.c_void_p),
        ("size", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


_CONTIGUOUS = 0  # PyBUF_SIMPLE

_get = ctypes.pythonapi.PyObject_GetBuffer
_get.argtypes = (ctypes.py_object, ctypes.POINTER(_View), ctypes.c_int)
_release = ctypes.pythonapi.PyBuffer_Release
_release.argtypes = (ctypes.POINTER(_View),)
_release.restype = None


_new = ctypes.pythonapi.PyByteArray_FromStringAndSize
_new.argtypes = (ctypes.c_char_p, ctypes.c_ssize_t)
_new.restype = ctypes.py_object


def new_bytearray(size: int) -> bytearray:
    """Return one with nothing particular in it: to write zeros would hold the GIL."""
    return _new(None, size)


def copy(source: Any, address: int, room: int) -> None:
    """Copy all bytes of `source` to memory; releases the GIL.

    :param source: whatever has the buffer protocol
    :param room: bytes that there are at `address`
    :raises BufferError: if it is not contiguous, or there is too little room
    """
    view = _View()
    _get(source, view, _CONTIGUOUS)
    try:
        if view.size > room:
            raise BufferError("there is too little room")
        # A foreign function, for whose time ctypes lets go of the GIL.
        ctypes.memmove(address, view.address, view.size)
    finally:
        _release(view)


def join(pieces: Sequence[Any]) -> bytes | bytearray:
    """Return the bytes of all pieces in one; releases the GIL.

    :param pieces: whatever has the buffer protocol, and is contiguous
    """
    if all(type(piece) is bytes for piece in pieces):
        return b"".join(pieces)  # lets go of it only where nothing can change
    views = [pickle.PickleBuffer(piece).raw() for piece in pieces]
    whole = new_bytearray(sum(view.nbytes for view in views))
    address = ctypes.addressof((ctypes.c_ubyte * len(whole)).from_buffer(whole))
    for view in views:
        copy(view, address, view.nbytes)
        address += view.nbytes
    return whole
