"""What a worker gets when it is passed one of the bridge's objects: the plain one.

Under spawn and forkserver arguments are pickled, and `__reduce__` puts the plain object
in. Under fork they are not, so `plain` looks for awaitables where pickle would.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false

import copy
import copyreg
import operator
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from types import FunctionType, MethodType, ModuleType, NoneType
from typing import Any

__all__ = ["Bridged", "plain"]


class Bridged(ABC):
    """An awaitable that stands for an object of `multiprocessing`."""

    @property
    @abstractmethod
    def sync(self) -> Any:
        """The plain object, to be handed to a worker."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickle insists that an object reduces to its own class, but not if a call
        # makes it. So: take the first of a tuple.
        return operator.getitem, ((self.sync,), 0)


def plain(value: Any) -> Any:
    """Return `value` with the awaitables in it replaced by what they stand for.

    They are found in lists, tuples, dicts, sets and deques, in partial functions, in
    the object of a bound method, and in the attributes of objects. What has none in it
    is left as it is; what has is copied.

    Functions (with their closures), classes and modules are left alone, and so are
    objects that say themselves how they are pickled, or have a `__del__`: their copies
    would be more than their attributes.
    """
    whole = (value,)
    if not any(issubclass(type(part), Bridged) for _, part in _parts_of_all(whole)):
        return value
    holders: dict[int, list[int]] = defaultdict(list)
    concerned: set[int] = set()
    todo: list[int] = []
    for holder, part in _parts_of_all(whole):
        holders[id(part)].append(id(holder))
        if issubclass(type(part), Bridged):
            todo.append(id(part))
    while todo:
        each = todo.pop()
        if each not in concerned:
            concerned.add(each)
            todo += holders[each]
    return _Copier(concerned).copy(whole)[0]


class _Copier:
    """Copies some objects, each once.

    :param concerned: their ids
    """

    def __init__(self, concerned: set[int]) -> None:
        self._concerned = concerned
        self._copies: dict[int, Any] = {}

    def copy(self, value: Any) -> Any:
        if id(value) not in self._concerned:
            return value
        if id(value) not in self._copies:
            made = self._rebuild(value)
            self._copies[id(value)] = self._fill(value) if made is None else made
        return self._copies[id(value)]

    def _rebuild(self, value: Any) -> Any:
        """Return a copy of what can't be changed, or None."""
        kind: Any = type(value)
        if issubclass(kind, Bridged):
            return value.sync
        if issubclass(kind, tuple):
            return tuple.__new__(kind, map(self.copy, value))
        if issubclass(kind, frozenset):
            return kind(map(self.copy, value))
        if issubclass(kind, partial):
            keywords = {k: self.copy(v) for k, v in value.keywords.items()}
            return kind(self.copy(value.func), *map(self.copy, value.args), **keywords)
        if issubclass(kind, MethodType):
            return self._rebind(value)
        return None

    def _rebind(self, method: MethodType) -> Any:
        function: Any = method.__func__
        owner: Any = method.__self__
        if issubclass(type(owner), Bridged):  # the plain object's own, as with pickle
            return getattr(owner.sync, function.__name__)
        return MethodType(function, self.copy(owner))

    def _fill(self, value: Any) -> Any:
        """Return a copy of what may have itself as a part, some way down."""
        if not issubclass(type(value), dict | list | deque | set):
            return self._fill_object(value)
        self._copies[id(value)] = new = copy.copy(value)
        if new is value:  # its class says so, and it must not be changed
            return value
        new.clear()
        if issubclass(type(value), dict):
            for key, item in value.items():
                new[self.copy(key)] = self.copy(item)
        elif issubclass(type(value), set):
            new.update(map(self.copy, value))
        else:
            new.extend(map(self.copy, value))
        return new

    def _fill_object(self, value: Any) -> Any:
        # Not by what the class has of its own: it may return the same object, or refuse
        # an attribute that is not what it was.
        self._copies[id(value)] = new = object.__new__(type(value))
        in_dict, in_slots = _state(value)
        for name, item in in_dict.items():
            new.__dict__[name] = self.copy(item)
        for name, item in in_slots.items():
            object.__setattr__(new, name, self.copy(item))
        return new


_ATOMS = {
    *(NoneType, bool, int, float, complex, str, bytes, bytearray, range, slice),
    *(type, FunctionType, ModuleType),
}


def _parts_of_all(whole: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the parts of `whole`, theirs and so on, each with what it is a part of."""
    seen, todo = {id(whole)}, [whole]
    while todo:
        holder = todo.pop()
        for part in _parts(holder):
            if type(part) not in _ATOMS:
                yield holder, part
                if id(part) not in seen:
                    seen.add(id(part))
                    todo.append(part)


def _parts(value: Any) -> Iterable[Any]:
    # Not `isinstance`, which asks a lazy object, or a mock, what it would like to be.
    kind, parts = type(value), ()
    if issubclass(kind, dict):
        parts = chain(value.keys(), value.values())
    elif issubclass(kind, list | tuple | set | frozenset | deque):
        parts = value
    elif issubclass(kind, partial):
        parts = value.func, *value.args, *value.keywords.values()
    elif issubclass(kind, MethodType):
        parts = (value.__self__,)
    elif _is_its_attributes(kind):
        in_dict, in_slots = _state(value)
        parts = (*in_dict.values(), *in_slots.values())
    return parts


def _is_its_attributes(kind: type) -> bool:
    """Whether the objects of a class are copied with their attributes, if at all."""
    return (
        kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__reduce__ is object.__reduce__
        and _has_usual_state(kind)
        and kind not in copyreg.dispatch_table
        and not (hasattr(kind, "__del__") or hasattr(kind, "__copy__"))
        and not issubclass(kind, type | FunctionType | ModuleType)
    )


def _has_usual_state(kind: Any) -> bool:
    own = [
        getattr(kind, name)
        for name in ("__getstate__", "__setstate__")
        if getattr(kind, name, None) is not getattr(object, name, None)
    ]
    # A dataclass that is frozen and has slots gets them from there.
    return all(getattr(it, "__module__", None) == "dataclasses" for it in own)


def _state(value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what `value` has in its `__dict__`, and in its slots."""
    state: Any = object.__getstate__(value)
    in_dict, in_slots = state if isinstance(state, tuple) else (state, None)
    return in_dict or {}, in_slots or {}
