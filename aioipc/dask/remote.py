"""What a worker of Dask's runs for a `DaskPool`; the scheduler imports it, too.

All travels as bytes that only the two ends look into. So Dask does not search arguments
for keys and futures, a call that can't be unpickled fails alone, and the scheduler
needs no module of the user's. For the same reason no task of Dask's fails, whatever the
function raises: a SystemExit would end the worker.
"""

import pickle
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from time import monotonic
from typing import Any, NamedTuple, Self, cast

from distributed import get_worker

from aioipc.dask.admission import refusal
from aioipc.worker.chunks import ChunkResult
from aioipc.worker.failures import Failure, describe

__all__ = [
    "Answer",
    "Blank",
    "Packed",
    "Parcel",
    "Row",
    "dumps",
    "make",
    "note",
    "pack",
    "unpack",
]

MOMENT = 0.02
"""Seconds after which a worker tells that it has begun a call."""

APART = 1 << 16
"""Bytes of buffers from which on they are no part of the pickle."""

_BY_VALUE = b"__main__"

_cloudpickle: Any = import_module("cloudpickle")  # it has no types
_protocol: Any = import_module("distributed.protocol")  # nor has this


class Parcel:
    """A pickle with its large buffers beside it, which Dask sends without a copy.

    :param pickled: of protocol 5
    :param buffers: that it leaves out
    :param writable: whether each of them was
    """

    __slots__ = ("_buffers", "_pickled", "_writable")

    def __init__(
        self, pickled: bytes, buffers: Sequence[Any], writable: Sequence[bool]
    ) -> None:
        self._pickled = pickled
        self._buffers = buffers
        self._writable = writable

    @property
    def size(self) -> int:
        """Bytes that it has."""
        return len(self._pickled) + sum(memoryview(it).nbytes for it in self._buffers)

    def open(self, *, copy: bool) -> Any:
        """Return what is in it.

        :param copy: whether others may open it as well, who must not see a change
        """
        pairs = zip(self._buffers, self._writable, strict=True)
        contents = [_content(memoryview(it), writable, copy) for it, writable in pairs]
        return pickle.loads(self._pickled, buffers=contents)

    def __reduce__(self) -> tuple[Any, ...]:
        return Parcel, (self._pickled, list(map(bytes, self._buffers)), self._writable)

    def to_frames(self) -> tuple[dict[str, Any], list[Any]]:
        """Return what Dask sends: a header and buffers."""
        views = [memoryview(it) for it in self._buffers]
        return {"writable": list(self._writable)}, [self._pickled, *views]

    @classmethod
    def from_frames(cls, header: dict[str, Any], frames: Sequence[Any]) -> Self:
        """Return what was sent like this."""
        pickled, *buffers = frames
        return cls(bytes(pickled), buffers, header["writable"])

    def __sizeof__(self) -> int:
        """Return what Dask goes by, to decide where a task is to run."""
        return self.size


_protocol.dask_serialize.register(Parcel)(Parcel.to_frames)
_protocol.dask_deserialize.register(Parcel)(Parcel.from_frames)


def _content(view: memoryview, writable: bool, copy: bool) -> Any:
    if not writable:
        return view.toreadonly()
    return bytearray(view) if copy or view.readonly else view


class _Flat:
    """`bytes` or a `bytearray`, which pickle would copy."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return cast("Any", type(self._value)), (pickle.PickleBuffer(self._value),)


Packed = bytes | Parcel
Answer = Packed | Failure


class Blank(NamedTuple):
    """Stands in a call for an argument that was sent ahead.

    :ivar number: its place among those
    """

    number: int


class Row(tuple[Any, ...]):
    """A row of arguments, of a map, that has blanks."""

    __slots__ = ()


def dumps(value: object, leave_out: Callable[[Any], Any] | None = None) -> bytes:
    """Pickle as Dask does: by name; by value what is in `__main__`, or has no name.

    :param leave_out: takes buffers that are not to be in the pickle
    """
    buffers: list[pickle.PickleBuffer] = []
    callback = None if leave_out is None else buffers.append
    try:
        pickled = pickle.dumps(value, 5, buffer_callback=callback)
        is_by_name = _BY_VALUE not in pickled
    except Exception:  # noqa: BLE001 - whatever a class of the user's raises
        pickled, is_by_name = b"", False
    if not is_by_name:
        buffers.clear()
        pickled = _cloudpickle.dumps(value, 5, buffer_callback=callback)
    if leave_out is not None:
        for buffer in buffers:
            leave_out(buffer)
    return pickled


def pack(value: object, *, copy: bool = False) -> Packed:
    """Pickle a value, with large buffers beside the pickle.

    :param copy: whether those are to be copied, because they may change before they go
    """
    buffers: list[pickle.PickleBuffer] = []
    if type(value) in {bytes, bytearray}:
        value = _Flat(value)
    pickled = dumps(value, buffers.append)
    if not buffers:
        return pickled
    views = [it.raw() for it in buffers]
    if sum(it.nbytes for it in views) < APART:
        return dumps(value)
    contents = [_as_it_is_now(it) for it in views] if copy else views
    return Parcel(pickled, contents, [not it.readonly for it in views])


def _as_it_is_now(view: memoryview) -> Any:
    return view if type(view.obj) is bytes else bytes(view)


def make(packed: Packed, topic: str, number: int, *ahead: Packed) -> Answer:
    """Make a call in a worker; whatever that does, this returns.

    :param packed: the function and its arguments; sent ahead, if it is a parcel
    :param topic: of the pool, where to tell that the call has begun
    :param number: to tell there
    :param ahead: arguments that were sent ahead
    """
    refused = refusal(topic)
    if refused is not None:
        return refused
    beginning = _Beginning(topic, number)
    try:
        if isinstance(packed, Parcel):
            packed = packed.open(copy=False)
        function, args, kwargs = pickle.loads(cast("bytes", packed))
        if ahead:
            args = tuple(_filled(it, ahead) for it in args)
            kwargs = {name: _filled(it, ahead) for name, it in kwargs.items()}
    except BaseException as error:  # noqa: BLE001 - it is the caller's
        return describe(error, "load")
    else:
        return _made(function, args, kwargs)
    finally:
        beginning.is_over = True


class _Beginning:
    """Tells that a call has begun, if it takes longer than a moment.

    To tell it at once would hold up the answer: Dask sends messages in batches, which
    are some milliseconds apart.
    """

    __slots__ = ("_number", "_topic", "_when", "is_over")

    def __init__(self, topic: str, number: int) -> None:
        self._topic = topic
        self._number = number
        self._when = monotonic()
        self.is_over = False
        worker: Any = get_worker()
        worker.loop.add_callback(worker.loop.call_later, MOMENT, self._tell, worker)

    def _tell(self, worker: Any) -> None:
        if not self.is_over:
            worker.log_event(self._topic, (self._number, monotonic() - self._when))


def _made(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Answer:
    try:
        value = function(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 - also SystemExit and the like
        trace = error.__traceback__
        # Without this frame, which is no one's business
        return note(error.with_traceback(trace and trace.tb_next), "run")
    try:
        return pack(value, copy=True)
    except BaseException as error:  # noqa: BLE001
        if isinstance(value, ChunkResult):
            return dumps(value.salvage(dumps))
        return describe(error, "pickle")


def note(error: BaseException, doing: str) -> Failure:
    """Describe an exception, whose class may be one of the main module's."""
    return describe(error, doing, dumps)


def unpack(answer: Packed) -> Any:
    """Return what is packed, for the only one who gets it."""
    if isinstance(answer, Parcel):
        return answer.open(copy=False)
    return pickle.loads(answer)


def _filled(value: Any, ahead: tuple[Packed, ...]) -> Any:
    if type(value) is Blank:
        parcel = ahead[value.number]
        return (
            parcel.open(copy=True)
            if isinstance(parcel, Parcel)
            else pickle.loads(parcel)
        )
    if type(value) is Row:
        return tuple(_filled(it, ahead) for it in value)
    return value
