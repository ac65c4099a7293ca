"""Picklers for what the standard one can't: lambdas, closures, a program's classes."""

import pickle
from collections import ChainMap
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from aioipc.wire.pickles import NO_REDUCERS

__all__ = ["cloud_pickler"]

# Where the pickler looks. Its class has an attribute of that name, too, which it has
# taken this from, and which hides it.
_table: Any = vars(pickle.Pickler)["dispatch_table"]


def cloud_pickler(
    file: Any,
    reducers: Mapping[type, Callable[[Any], Any]] = NO_REDUCERS,
    *,
    protocol: int | None = None,
    buffer_callback: Callable[[pickle.PickleBuffer], bool] | None = None,
) -> pickle.Pickler:
    """Return a pickler of cloudpickle's that knows `reducers`, too."""
    new: Any = import_module("cloudpickle").Pickler
    pickler: pickle.Pickler = new(file, protocol, buffer_callback)
    _table.__set__(pickler, ChainMap({**reducers}, new.dispatch_table))
    return pickler
