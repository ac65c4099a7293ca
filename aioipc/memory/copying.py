"""Copying bytes without keeping other threads from running.

A copy by Python's own means holds the GIL: 100 MB would stop an event loop for 15 ms.
"""

import ctypes
from typing import Any

__all__ = ["Buffer", "copy"]

Buffer = Any
"""Whatever has the buffer protocol, contiguous; Python 3.12 has a name for it."""


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
_WRITABLE = 1

_get = ctypes.pythonapi.PyObject_GetBuffer
_get.argtypes = (ctypes.py_object, ctypes.POINTER(_View), ctypes.c_int)
_release = ctypes.pythonapi.PyBuffer_Release
_release.argtypes = (ctypes.POINTER(_View),)
_release.restype = None


def copy(source: Buffer, target: Buffer) -> None:
    """Copy all bytes of `source` to the start of `target`; releases the GIL.

    :raises BufferError: if they are not contiguous, or `target` is too small
    """
    source_view, target_view = _View(), _View()
    _get(source, source_view, _CONTIGUOUS)
    try:
        _get(target, target_view, _CONTIGUOUS | _WRITABLE)
        try:
            if source_view.size > target_view.size:
                raise BufferError("the target is too small")
            # A foreign function, for whose time ctypes lets go of the GIL.
            ctypes.memmove(target_view.address, source_view.address, source_view.size)
        finally:
            _release(target_view)
    finally:
        _release(source_view)
