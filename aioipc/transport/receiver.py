"""Receiving messages: what a connection and a queue have in common.

Note to the next reader. The promise is that a cancelled receive has taken nothing. It
is kept by never moving a message and then waiting: everything that has arrived lies in
`frames`, a task that is woken looks there itself, and what it takes it returns without
another `await`. Where that is impossible (a large pickle is loaded in a thread) the
message stays at the head, and so does the thread's work on it, for whoever comes next.

Tasks take turns, so that they are served in the order in which they came.

`step` reads only while a task waits. Messages that came in the same read wait in
`frames`; a task that finds one there is not suspended. That can't starve the loop: one
read is at most `CHUNK`, and before a task has to wait it looks for so many messages
only, or for so long (`try_now`).
"""

from abc import ABC, abstractmethod
from time import perf_counter
from typing import TYPE_CHECKING, Any

from aioipc.errors import (
    BrokenResourceError,
    ClosedResourceError,
    DecodeError,
    EndOfStream,
    FrameError,
)
from aioipc.transport.choice import Transport, open_watch
from aioipc.transport.loops import NOWHERE, Loop, running_loop, settle
from aioipc.transport.threads import Job, run_in_thread
from aioipc.transport.turns import Turn
from aioipc.wire.frames import Ending, FrameDecoder, PickledBytes
from aioipc.wire.handshake import CHALLENGE
from aioipc.wire.parts import LARGE
from aioipc.wire.pickles import loads, loads_large

if TYPE_CHECKING:
    from aioipc.transport.watches import Watch

__all__ = ["CHUNK", "Receiver"]

CHUNK = 1 << 16
"""Bytes that one read takes at most, but for the body of a large frame."""

_ERRORS = {
    Ending.CLEAN: EndOfStream,
    Ending.RESET: BrokenResourceError,
    Ending.TRUNCATED: FrameError,
    Ending.REFUSED: FrameError,
}


class Receiver(ABC):
    """Messages from one descriptor, for any number of tasks of one loop.

    :param fd: waited for; what `step` reads may be another
    :param what: named in errors
    """

    def __init__(
        self, fd: int, *, transport: Transport | None, max_size: int, what: str
    ) -> None:
        self.decoder = FrameDecoder(max_size)
        self.frames = self.decoder.frames
        self.closed = False
        self.eager = False  # whether to look for a message before waiting
        self._fd = fd
        self._transport: Transport | None = transport
        self._what = what
        self._turn = Turn()
        self._loop: Loop = NOWHERE
        self._home: object = NOWHERE  # see Loop.mark
        self._watch: Watch
        self._loading: Job[Any] | None = None  # of the pickle at the head of `frames`

    @abstractmethod
    def step(self) -> bool:
        """Read what is there; True if a message has arrived, or none ever will."""

    @property
    def tasks(self) -> int:
        """How many tasks are receiving."""
        return 0 if self._loop.is_closed() else self._turn.tasks

    async def receive_bytes(self) -> bytes:
        """Return the next message as it is."""
        turn = await self._enter()
        try:
            self.decoder.expects_pickle = False
            await self._arrival()
            if not self.frames:
                self.raise_ending()
            self._loading = None
            return bytes(self.frames.popleft())
        finally:
            turn.pass_on()

    async def receive_object(self) -> Any:
        """Return the next message, unpickled.

        :raises DecodeError: if it can't be; it is consumed
        """
        # _enter, _arrival and load, written out: each is 1 % of a round trip.
        if running_loop() is not self._home and not self._loop.is_current():
            self._move()
        turn, decoder, frames = self._turn, self.decoder, self.frames
        if turn.taken:
            await self._wait_for(turn)
        turn.taken = True
        try:
            while not frames:
                if decoder.room:
                    decoder.check_pickle()
                if decoder.ending is not None:
                    self.raise_ending()
                decoder.expects_pickle = True
                if not (self.eager and self.try_now()):
                    since = perf_counter()
                    await self._watch.wait()
                    self.waited(perf_counter() - since)
                if not frames:
                    await self.unblock()
            frame = frames[0]
            if len(frame) >= LARGE:
                return await self._load_large(frame)
            frames.popleft()
            try:
                return loads(frame)  # type: ignore[arg-type] - a small frame is bytes
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                raise self._decode_error(error, frame) from error
        finally:
            turn.pass_on()

    async def wait(self) -> None:
        """Wait until a receive would end at once, with a message or with an error."""
        turn = await self._enter()
        try:
            await self._arrival()
        finally:
            turn.pass_on()

    def try_now(self) -> bool:
        """Look for a message before waiting, if `eager`; True as `step` returns it."""
        return self.step()

    def waited(self, seconds: float) -> None:  # noqa: ARG002
        """Note how long a message has taken that the loop brought."""
        return

    async def unblock(self) -> None:
        """Do what `step` needs before it can go on, if that isn't bytes."""
        return

    def is_ready(self) -> bool:
        """Whether a receive would end at once, with a message or with an error."""
        if self.closed:
            raise ClosedResourceError(f"{self._what} is closed")
        if not self.frames and self.decoder.ending is None and not self._turn.taken:
            self.prepare()
            self.step()
        return bool(self.frames) or self.decoder.ending is not None

    def prepare(self) -> None:
        """Make the descriptor safe for `step`."""
        return

    def receive_nowait(self) -> Any:
        """Return a message that is there for us, unpickled, or raise LookupError."""
        if self._turn.taken or not self.is_ready():
            raise LookupError
        if not self.frames:
            self.raise_ending()
        self._loading = None
        return self.load(self.frames.popleft())

    def load(self, frame: bytes | PickledBytes) -> Any:
        """Unpickle a message that has been taken."""
        if isinstance(frame, PickledBytes):
            return frame.value
        try:
            return loads(frame)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise self._decode_error(error, frame) from error

    def raise_ending(self) -> None:
        """Raise what ended the stream, if it has ended."""
        ending = self.decoder.ending
        if ending is not None:
            raise _ERRORS[ending](f"{self._what}: {self.decoder.reason}")

    def release(self) -> None:
        """Leave the loop; the next receive settles in the one that it runs in."""
        if self._loop is not NOWHERE:
            self._loop = self._home = NOWHERE
            self._watch.close()

    def close(self) -> None:
        """Wake all who wait, with ClosedResourceError; the descriptor stays open."""
        self.closed = True
        self.release()

    async def _enter(self) -> Turn:
        """Take the turn, in the current loop."""
        if not self._loop.is_current():
            self._move()
        turn = self._turn
        if turn.taken:
            await self._wait_for(turn)
        turn.taken = True
        return turn

    async def _wait_for(self, turn: Turn) -> None:
        await turn.wait()
        if self.closed:
            turn.pass_on()
            raise ClosedResourceError(f"{self._what} is closed")

    async def _arrival(self) -> None:
        """Wait for a message, or for the end."""
        while not self.frames and self.decoder.ending is None:
            if not (self.eager and self.try_now()):
                since = perf_counter()
                await self._watch.wait()
                self.waited(perf_counter() - since)
            if not self.frames:
                await self.unblock()

    async def _load_large(self, frame: bytes | PickledBytes) -> Any:
        if isinstance(frame, PickledBytes):
            self.frames.popleft()
            return frame.value
        job = self._loading
        if job is None:
            job = run_in_thread(lambda: loads_large(frame), "loads")
            self._loading = job
        await job.wait()
        if self.closed:
            raise ClosedResourceError(f"{self._what} is closed")
        self._loading = None
        self.frames.popleft()
        try:
            return job.result()
        except BaseException as error:
            raise self._decode_error(error, frame) from error

    def _decode_error(
        self, error: BaseException, frame: bytes | bytearray | PickledBytes
    ) -> DecodeError:
        if isinstance(frame, bytes) and frame.startswith(CHALLENGE):
            return DecodeError(f"{self._what}: the peer demands an authkey")
        cause = f"{type(error).__name__}: {error}"
        return DecodeError(
            f"{self._what}: a message of {len(frame)} bytes can't be unpickled "
            f"({cause})"
        )

    def _move(self) -> None:
        """Settle in the current loop."""
        if self.closed:
            raise ClosedResourceError(f"{self._what} is closed")
        loop = settle(self._loop, self._what)
        self.release()
        self._turn = Turn()  # whoever had it went with its loop
        self._watch = open_watch(loop, self._fd, "read", self.step, self._transport)
        self._loop, self._home = loop, loop.mark
        self.prepare()
