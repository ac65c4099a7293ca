"""`map` and its like: a stream of items in, a stream of results out.

Items are read as results are taken: what is read and not yet yielded is bounded. Items
that take little time travel in chunks of about `CHUNK_TIME`, measured as they go.

Note to the next reader. What is bounded is memory, and no one says how much an item
takes. An array does, when it is read, but not what is made of it; so what comes back is
weighed, with what was sent for it. Until the first of it is there, little is sent.
"""

import sys
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakMethod

import anyio

from aioipc.abc import Items, MapOptions, Results
from aioipc.errors import TaskCancelled, TaskError
from aioipc.memory.bulky import size_of
from aioipc.pool.outcomes import error_of
from aioipc.pool.task import name_of
from aioipc.worker.chunks import ChunkResult, call_each, call_each_row

if TYPE_CHECKING:
    from aioipc.pool.engine import Engine
    from aioipc.pool.options import Options
    from aioipc.pool.task import Call
    from aioipc.transport.loops import Timer

__all__ = ["MapResults"]

CHUNK_TIME = 0.004
"""Seconds of work in a chunk."""

CHUNK_LIMIT = 8_192
"""Items in a chunk, at most."""

AHEAD = 8
"""Chunks for each worker that are under way or wait to be yielded, at most."""

CHUNK_SIZE = 1 << 22
"""Bytes of arguments and results in a chunk, at most, unless one item has more.

With less, threads that copy a chunk take longer to start than to copy.
"""

AHEAD_SIZE = 1 << 24
"""Bytes for each worker that are under way or wait to be yielded, at most."""

UNSEEN = 2
"""Chunks for each worker before one has come back, and items however large they are."""

_GROWTH = 8  # a chunk is at most so many times as long as the one before
_LEARNING = 0.5  # how much a new measurement counts
_STEP = 128  # items that are read without a look at one of them


class MapResults(Results[Any]):
    """The results of one map; see `aioipc.abc.Pool.map`."""

    def __init__(
        self,
        owner: object,
        engine: "Engine",
        options: "Options",
        function: Callable[..., Any],
        iterables: tuple[Items[Any], ...],
        *,
        how: MapOptions,
    ) -> None:
        if not iterables:
            raise TypeError("map needs at least one iterable")
        if how.buffersize is not None and how.buffersize < 1:
            raise ValueError("buffersize must be at least 1, or None")
        engine.check()
        self._owner = owner  # the pool, which must not be collected before
        self._engine = engine
        self._options = options.but({"name": options.name or name_of(function)})
        self._function = function
        self._unpack = how.unpack or len(iterables) > 1
        self._ordered = how.ordered
        self._goes_on = how.return_exceptions
        self._buffersize = how.buffersize
        self._on_change = _weakly(self._go_on)
        self._weigh = _size_of_row if self._unpack else size_of
        self._source = _open(engine, iterables, self._on_change, self._weigh)
        self._ready: deque[Any] = deque()
        self._chunks: deque[Call] = deque()  # under way, and done but not looked at
        self._error: BaseException | None = None  # to be raised behind `_ready`
        self._under_way = 0  # items that have been read and not yielded
        self._each: float | None = None  # seconds that an item takes
        self._weight = 1.0  # bytes of an item and its result
        self._size = 1  # of the next chunk
        self._key = object()  # what its chunks are measured by
        self._measured: set[int] = set()  # chunks under way that have been
        self._waiters: list[Any] = []
        self._over = False

    def __aiter__(self) -> AsyncIterator[Any]:
        """Return a generator, whose items cost half of what our `__anext__` does.

        It ends with the loop over it, and the map with it: it needs no event loop for
        that, as its end awaits nothing. So the loop's hooks are kept away from it.
        """
        generator = self._items()
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(None, None)
        try:
            generator.__anext__().send(None)
        except StopIteration:  # is how it yields
            pass
        finally:
            sys.set_asyncgen_hooks(*hooks)
        return generator

    async def _items(self) -> AsyncGenerator[Any, None]:
        ready = self._ready
        try:
            yield None  # to `__aiter__`
            while True:
                while ready:
                    yield ready.popleft()
                if not await self._refill():
                    return
        finally:
            self._stop()

    async def __anext__(self) -> Any:
        if self._ready or await self._refill():
            return self._ready.popleft()
        raise StopAsyncIteration

    async def _refill(self) -> bool:
        """Wait until there are results; False if no more will come."""
        while True:
            self._fill()
            self._look_at_chunks()
            if self._ready:
                return True
            if self._error is not None:
                error, self._error = self._error, None
                self._stop()
                try:
                    raise error
                finally:
                    del self, error  # or the traceback would keep them, and they it
            if self._over or (not self._chunks and self._source.ended):
                self._stop()
                self._raise_source_error()
                return False
            waiter = self._engine.loop.waiter()
            self._waiters.append(waiter)
            await waiter

    async def aclose(self) -> None:
        self._stop()

    def __del__(self) -> None:
        if not getattr(self, "_over", True):
            self._stop()

    def _fill(self) -> None:
        """Read items and begin chunks of them, as far as is allowed."""
        source = self._source
        while not source.ended and self._error is None and not self._over:
            room = self._room()
            if room < 1:
                return
            items = source.take(room)
            if not items:
                return
            self._begin(items)
            self._weight = max(self._weight, self._weigh(items[-1]))

    def _room(self) -> int:
        """How many items the next chunk may have."""
        chunks = UNSEEN if self._each is None else AHEAD
        workers = self._engine.width
        if len(self._chunks) >= chunks * workers:
            return 0
        ahead = self._under_way + len(self._ready)
        most = int(AHEAD_SIZE * workers / self._weight)
        left = max(most, UNSEEN * workers) - ahead
        room = min(left, self._size, max(1, int(CHUNK_SIZE / self._weight)))
        if self._buffersize is None:
            return room
        share = max(1, self._buffersize // (2 * workers))
        return min(room, self._buffersize - ahead, share)

    def _begin(self, items: list[Any]) -> None:
        call = self._engine.submit(
            call_each_row if self._unpack else call_each,
            (self._function, *items),
            {"go_on": self._goes_on, **self._engine.chunk_options},
            self._options,
        )
        call.key = self._key
        call.size = len(items)
        self._under_way += len(items)
        self._chunks.append(call)
        call.then(self._on_change)

    def _go_on(self) -> None:
        """Note that a chunk is done, or that there is an item."""
        if self._over:
            return
        self._measure()
        if self._engine.refusal is None:  # else it is for the next `_refill` to say so
            self._fill()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.wake()

    def _measure(self) -> None:
        """Take an item's time and weight from the chunks that are done."""
        for call in self._chunks:
            if not call.done or call.number in self._measured:
                continue
            self._measured.add(call.number)
            if isinstance(call.value, ChunkResult) and call.value.values:
                each = call.value.seconds / len(call.value.values)
                known = self._each
                self._each = (
                    each if known is None else known + _LEARNING * (each - known)
                )
            if call.weight:
                each, known = call.weight / call.size, self._weight
                # What is heavier counts at once.
                self._weight = max(1.0, each, known + _LEARNING * (each - known))
        if self._each is not None and self._options.timeout is None:
            wanted = int(CHUNK_TIME / max(self._each, 1e-9))
            self._size = max(1, min(wanted, CHUNK_LIMIT, self._size * _GROWTH))

    def _look_at_chunks(self) -> None:
        """Move what can be yielded to `_ready`."""
        while self._error is None:
            call = self._next_done()
            if call is None:
                return
            self._under_way -= call.size
            self._measured.discard(call.number)
            if call.error is None:
                self._take(call.value)
            elif self._goes_on:
                self._ready.extend([call.error] * call.size)
            else:
                self._error = call.error

    def _next_done(self) -> "Call | None":
        chunks = self._chunks
        if self._ordered:
            return chunks.popleft() if chunks and chunks[0].done else None
        call = next((call for call in chunks if call.done), None)
        if call is not None:
            chunks.remove(call)
        return call

    def _take(self, chunk: ChunkResult) -> None:
        values = chunk.values
        if not chunk.failures:
            self._ready.extend(values)
            return
        name = self._options.name or ""
        for n in sorted(chunk.failures):
            error = error_of(chunk.failures[n], name)
            if not self._goes_on:
                self._error = error
                del values[n:]
                break
            values[n] = error
        self._ready.extend(values)

    def _stop(self) -> None:
        """End, with the work that is going on."""
        if self._over:
            return
        self._over = True
        self._source.close()
        chunks, self._chunks = self._chunks, deque()
        for call in chunks:
            self._engine.stop(call, TaskCancelled("the map was left"))
        for waiter in self._waiters:
            waiter.wake()

    def _raise_source_error(self) -> None:
        error, self._source.error = self._source.error, None
        if error is not None:
            raise error


def _weakly(method: Callable[[], None]) -> Callable[[], None]:
    """Return a function that calls a method, as long as its object is there.

    What is under way must not keep a map whose loop has been left.
    """
    reference = WeakMethod(method)

    def call() -> None:
        there = reference()
        if there is not None:
            there()

    return call


def _size_of_row(row: Any) -> int:
    """Return the bytes of the arguments that an item is, as far as they tell."""
    return sum(map(size_of, row)) if type(row) in {tuple, list} else 0


class _Source:
    """Items of ordinary iterables."""

    def __init__(self, items: Iterable[Any], weigh: Callable[[Any], int]) -> None:
        self._items = iter(items)
        self._weigh = weigh
        self.ended = False
        self.error: BaseException | None = None

    def take(self, count: int) -> list[Any]:
        """Return the next items, `count` at most; none at the end.

        They are fewer where they turn out to be large.
        """
        taken: list[Any] = []
        while len(taken) < count:
            wanted = min(count, len(taken) + _STEP)
            try:
                taken.extend(islice(self._items, wanted - len(taken)))
            except Exception as error:  # noqa: BLE001 - to be raised at its place
                self.error = error
            if len(taken) < wanted:
                self.ended = True
                break
            if self._weigh(taken[-1]) > CHUNK_SIZE // _STEP:
                break
        return taken

    def close(self) -> None:
        """Read no more."""
        self.ended = True
        self._items = iter(())


class _AsyncSource:
    """Items of an async iterable, read by a task of their own."""

    def __init__(
        self, engine: "Engine", items: AsyncIterator[Any], on_item: Callable[[], None]
    ) -> None:
        self._items = items
        self._on_item = on_item
        self._engine = engine
        self._have: deque[Any] = deque()
        self._at_end = False
        self.error: BaseException | None = None
        self._wanted: Any = None  # what the reader waits for
        self._reader: Timer = engine.loop.spawn(self._read)

    @property
    def ended(self) -> bool:
        """Whether there are no more items."""
        return self._at_end and not self._have

    def take(self, count: int) -> list[Any]:
        """Return the next items that have been read, `count` at most."""
        taken = [self._have.popleft() for _ in range(min(count, len(self._have)))]
        if not self._have and self._wanted is not None:
            wanted, self._wanted = self._wanted, None
            wanted.wake()
        return taken

    def close(self) -> None:
        """Read no more."""
        self._at_end = True
        self._have.clear()
        self._reader.cancel()

    async def _read(self) -> None:
        try:
            async for item in self._items:
                self._have.append(item)
                self._on_item()
                if self._have:
                    self._wanted = self._engine.loop.waiter()
                    await self._wanted
        except Exception as error:  # noqa: BLE001 - to be raised at its place
            self.error = error
        except BaseException as error:
            # A cancel, of ours or within the source: as an error it would steer.
            self.error = TaskError(f"the source of the map ended by {error!r}")
            if isinstance(error, (anyio.get_cancelled_exc_class(), GeneratorExit)):
                raise
        finally:
            self._at_end = True
            self._on_item()


def _open(
    engine: "Engine",
    iterables: tuple[Items[Any], ...],
    on_item: Callable[[], None],
    weigh: Callable[[Any], int],
) -> _Source | _AsyncSource:
    if not any(map(_is_async, iterables)):
        sync: Any = iterables
        items = sync[0] if len(sync) == 1 else zip(*sync, strict=False)
        return _Source(items, weigh)
    if len(iterables) == 1:
        return _AsyncSource(engine, aiter(iterables[0]), on_item)  # type: ignore[arg-type]
    return _AsyncSource(engine, _async_zip(iterables), on_item)


def _is_async(items: Items[Any]) -> bool:
    return hasattr(items, "__aiter__")


async def _async_zip(iterables: tuple[Items[Any], ...]) -> AsyncIterator[Any]:
    """Yield an item of each, until one is used up."""
    sources: Any = iterables
    iterators = [
        cast(
            "Iterator[Any] | AsyncIterator[Any]",
            aiter(it) if _is_async(it) else iter(it),
        )
        for it in sources
    ]
    while True:
        row: list[Any] = []
        for iterator in iterators:
            try:
                if isinstance(iterator, Iterator):
                    row.append(next(iterator))
                else:
                    row.append(await anext(iterator))
            except (StopIteration, StopAsyncIteration):
                return
        yield tuple(row)
