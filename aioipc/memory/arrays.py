"""Arrays of numpy that pickle itself would copy, made to leave their buffers out, too.

numpy leaves out what is contiguous, and copies the rest with the GIL held: every other
item of an array, say; and times, whatever their order.
"""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from aioipc.wire.pickles import TooLarge

__all__ = ["reducers"]

_TIMES = "mM"  # kinds of dtypes: they have no buffer, to Python


def reducers(least: int, most: float) -> Mapping[type, Callable[[Any], Any]]:
    """Return what takes arrays apart; for a pickler's dispatch table.

    There is none as long as nobody has imported numpy.

    :param least: bytes of an array that is worth it
    :param most: bytes that may be copied, or TooLarge is raised
    """
    ndarray: Any = getattr(sys.modules.get("numpy"), "ndarray", None)
    if ndarray is None:
        return {}
    return {ndarray: partial(_reduce, least=least, most=most)}


def _reduce(array: Any, *, least: int, most: float) -> Any:
    if array.nbytes >= least and not array.dtype.hasobject:
        if not array.flags.forc:  # contiguous in neither order
            if array.nbytes >= most:
                raise TooLarge
            array = array.copy()  # lets go of the GIL
        if array.dtype.kind in _TIMES:
            return _as_times, (array.view("i8"), array.dtype)
    return array.__reduce_ex__(5)


def _as_times(numbers: Any, dtype: Any) -> Any:
    return numbers.view(dtype)
