"""Which part of an object can't be pickled: ``argument 2 -> .callback -> <lambda>``."""

import pickle
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Any, cast

from aioipc.worker.failures import text_of

__all__ = ["blame"]

_DEPTH = 20
_BREADTH = 1_000


Dumps = Callable[[Any], object]


def blame(
    function: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    dumps: Dumps = pickle.dumps,
) -> str:
    """Name the part of a call that can't be pickled; empty if none is found."""
    try:
        return _find(function, args, kwargs or {}, dumps)
    except BaseException:  # noqa: BLE001 - whatever a user's class raises
        return ""


def _find(
    function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], dumps: Dumps
) -> str:
    parts = [("the function", function)]
    parts += ((f"argument {n}", value) for n, value in enumerate(args, 1))
    parts += ((f"argument {name}", value) for name, value in kwargs.items())
    for name, value in parts:
        error = _why_not(value, dumps)
        if error is not None:
            return " -> ".join([name, *_path(value, _DEPTH, dumps)]) + f" ({error})"
    return ""


def _why_not(value: object, dumps: Dumps) -> str | None:
    try:
        dumps(value)
    except BaseException as error:  # noqa: BLE001 - whatever a user's class raises
        return f"{type(error).__name__}: {text_of(error)}"
    return None


def _path(value: object, depth: int, dumps: Dumps) -> list[str]:
    """Return the steps to the innermost part that can't be pickled, and what it is."""
    if depth:
        for step, part in _parts(value):
            if _why_not(part, dumps) is not None:
                return [step, *_path(part, depth - 1, dumps)]
    return [_describe(value)]


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    kind = cast("type[object]", type(value))
    if issubclass(kind, types.MethodType):
        yield ".__self__", value.__self__
    elif issubclass(kind, Mapping):
        yield from ((f"[{key!r}]", value[key]) for key in islice(value, _BREADTH))
    elif issubclass(kind, Sequence | AbstractSet):
        if not issubclass(kind, str | bytes | bytearray):
            items: Iterable[Any] = islice(value, _BREADTH)
            yield from ((f"[{n}]", item) for n, item in enumerate(items))
    elif not issubclass(kind, type | types.FunctionType | types.ModuleType):
        state: dict[str, Any] = getattr(value, "__dict__", {})
        yield from ((f".{name}", state[name]) for name in state)


def _describe(value: object) -> str:
    if isinstance(value, types.FunctionType):
        code = value.__code__
        return f"{value.__name__} at {code.co_filename}:{code.co_firstlineno}"
    return f"a {type(value).__qualname__}"
