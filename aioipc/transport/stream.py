"""Messages over a descriptor that no one else reads or writes: a connection's.

The descriptor is made non-blocking when the first task uses it, and given back as it
was. `os.read` and `os.write` serve pipes and sockets alike.

A send goes out at the first try, or waits for room. If its task is cancelled before a
byte is out, nothing is sent; if after, the rest belongs to the sender object, which
goes on sending it with no one waiting, and later messages queue up behind it. So the
peer sees whole messages only.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio.lowlevel

from aioipc.errors import BrokenResourceError, ClosedResourceError
from aioipc.transport.choice import Transport, open_watch
from aioipc.transport.descriptor import Descriptor
from aioipc.transport.loops import NOWHERE, Loop, running_loop, settle
from aioipc.transport.receiver import CHUNK, Receiver
from aioipc.transport.spin import Spin
from aioipc.transport.turns import Turn
from aioipc.wire.frames import encode_header, pack_length
from aioipc.wire.parts import IOV_MAX, drop_written

if TYPE_CHECKING:
    from aioipc.transport.watches import Watch

__all__ = ["StreamReceiver", "StreamSender"]

SMALL = 400
"""Bytes of the first read after a small one: CPython has memory for that at hand."""

BULK = 1 << 20
"""Bytes of a large body that one step reads: about 0.3 ms into fresh memory."""

BURST = 64
"""Messages sent without a pause before the loop gets its turn."""

_COALESCE = 1 << 14  # bytes: a smaller message goes out in one piece with its header
_WIDE = 1 << 16  # bytes: a larger message is worth more room in the kernel


class StreamReceiver(Receiver):
    """Messages from a descriptor of one's own."""

    def __init__(
        self,
        descriptor: Descriptor,
        *,
        transport: Transport | None,
        max_size: int,
        what: str,
    ) -> None:
        fd = descriptor.fd
        super().__init__(fd, transport=transport, max_size=max_size, what=what)
        self._descriptor = descriptor
        self._ask = SMALL
        self._spin = Spin()

    def step(self) -> bool:
        decoder = self.decoder
        try:
            if len(decoder.room) > CHUNK:
                return self._read_body()
            data = os.read(self._fd, self._ask)
        except BlockingIOError:
            return False
        except OSError:
            decoder.feed_eof(reset=True)
            return True
        if len(data) == self._ask:
            self._ask = CHUNK
        elif not data:
            decoder.feed_eof()
            return True
        elif len(data) < SMALL:
            self._ask = SMALL
        decoder.feed(data)
        if self.frames:
            return True
        if decoder.expects_pickle:
            decoder.check_pickle()
        return decoder.ending is not None

    def _read_body(self) -> bool:
        """Read some of a large body to its place."""
        decoder = self.decoder
        count = os.readv(self._fd, [decoder.room[:BULK]])
        if count:
            decoder.filled(count)
            if decoder.expects_pickle:
                decoder.check_pickle()
        else:
            decoder.feed_eof()
        return bool(self.frames) or decoder.ending is not None

    def prepare(self) -> None:
        self._descriptor.unblock()

    def try_now(self) -> bool:
        descriptor = self._descriptor
        if not descriptor.asked:
            return False
        descriptor.asked = False
        os.sched_yield()  # to whoever wants this CPU
        if self.step():
            self._spin.left -= 1
            self.eager = self._spin.left > 0
            return True
        found = self._spin.look(self.step)
        self.eager = self._spin.again
        return found

    def waited(self, seconds: float) -> None:
        descriptor, loop = self._descriptor, self._loop
        alone, loop.served = loop.served == self._fd, self._fd
        if descriptor.asked:
            self.eager = self._spin.looped(seconds, alone=alone)
        descriptor.burst, descriptor.asked = 0, False


class StreamSender:
    """Messages to a descriptor of one's own, from any number of tasks of one loop."""

    def __init__(
        self, descriptor: Descriptor, *, transport: Transport | None, what: str
    ) -> None:
        self._fd = descriptor.fd
        self._descriptor = descriptor
        self._transport: Transport | None = transport
        self._what = what
        self._turn = Turn()
        self._loop: Loop = NOWHERE
        self._home: object = NOWHERE  # see Loop.mark
        self._watch: Watch
        self._rest: list[memoryview] = []  # of the message that is going out
        self._begun = False  # whether some of it is out
        self._midway = False  # whether `send_nowait` has begun, and `send` is to go on
        self._error: OSError | None = None
        self.closed = False

    @property
    def tasks(self) -> int:
        """How many tasks are sending."""
        return 0 if self._loop.is_closed() else self._turn.tasks

    @property
    def unsent(self) -> int:
        """Bytes still to go of a message that has been begun."""
        return sum(map(len, self._rest))

    def send_nowait(self, message: bytes) -> bool:
        """Send a small message if it goes out whole at the first try.

        If it does not, call `send` at once: it goes on from there. False is also the
        answer if others are sending, and every `BURST` messages.
        """
        descriptor = self._descriptor
        descriptor.burst += 1
        descriptor.asked = True
        if (
            descriptor.burst > BURST
            or self._turn.taken
            or self._rest
            or len(message) > _COALESCE
            or (running_loop() is not self._home and not self._loop.is_current())
        ):
            return False
        data = pack_length(len(message)) + message
        try:
            count = os.write(self._fd, data)
        except BlockingIOError:
            return False
        except OSError as error:
            raise BrokenResourceError(f"{self._what}: the peer is gone") from error
        if count == len(data):
            return True
        self._turn.taken = self._begun = self._midway = True
        self._rest.append(memoryview(data)[count:])
        return False

    async def send(self, parts: Sequence[bytes | memoryview]) -> None:
        """Send one message; a cancel has sent all of it or nothing."""
        self._descriptor.asked = True
        if not self._loop.is_current():
            self._move()
        turn, midway, self._midway = self._turn, self._midway, False
        if turn.taken and not midway:
            await turn.wait()
        turn.taken = True
        try:
            if not midway:
                await self._clear_the_way()
                self._begin(parts)
            if not self.step():
                await self._finish_own()
            if self._error is not None:
                self._raise_error()
        finally:
            turn.pass_on()

    async def flush(self) -> None:
        """Wait until all that is being sent is out; a cancel leaves it going out."""
        if not self._loop.is_current():
            self._move()
        turn = self._turn
        if turn.taken:
            await turn.wait()
        turn.taken = True
        try:
            if self._rest:
                await self._finish_other()
        finally:
            turn.pass_on()

    def step(self) -> bool:
        """Write what there is room for; True if all is out, or never will be."""
        rest = self._rest
        try:
            while rest:
                self._sent(os.writev(self._fd, rest[:IOV_MAX]))
        except BlockingIOError:
            return False
        except OSError as error:
            self._error = error
            rest.clear()
        return True

    def release(self) -> None:
        """Leave the loop; the next send settles in the one that it runs in."""
        if self._loop is not NOWHERE:
            self._loop = self._home = NOWHERE
            self._watch.close()

    def close(self) -> None:
        """Wake all who wait, with ClosedResourceError; the descriptor stays open."""
        self.closed = True
        self._rest.clear()
        self.release()

    def _begin(self, parts: Sequence[bytes | memoryview]) -> None:
        if self.closed:
            raise ClosedResourceError(f"{self._what} is closed")
        size = sum(map(len, parts))
        header = encode_header(size)
        self._begun = False
        if size <= _COALESCE:
            self._rest.append(memoryview(b"".join((header, *parts))))
        else:
            if size > _WIDE:
                self._descriptor.widen()
            self._rest.append(memoryview(header))
            self._rest.extend(memoryview(part) for part in parts if len(part))

    def _sent(self, count: int) -> None:
        """Forget the first `count` bytes of what is going out."""
        self._begun = True
        drop_written(self._rest, count)

    async def _clear_the_way(self) -> None:
        """Give the loop its turn if it is due; send what another task had begun."""
        if self._descriptor.burst > BURST:
            self._descriptor.burst = 0
            await anyio.lowlevel.checkpoint()
        if self._rest:
            await self._finish_other()

    async def _finish_own(self) -> None:
        try:
            await self._watch.wait()
        except BaseException:
            if not self._begun:
                self._rest.clear()
            elif self._rest:
                self._keep_rest()
            raise

    async def _finish_other(self) -> None:
        try:
            await self._watch.wait()
        except BaseException:
            if self._rest:
                self._keep_rest()
            raise
        if self._error is not None:
            self._raise_error()

    def _keep_rest(self) -> None:
        """Go on sending what was begun, on behalf of a task that was cancelled."""
        # What the task can change from now on must not change on the wire.
        self._rest[:] = [v if v.readonly else memoryview(bytes(v)) for v in self._rest]
        self._watch.finish()

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        raise BrokenResourceError(f"{self._what}: the peer is gone") from error

    def _move(self) -> None:
        """Settle in the current loop."""
        if self.closed:
            raise ClosedResourceError(f"{self._what} is closed")
        loop = settle(self._loop, self._what)
        self.release()
        self._turn = Turn()  # whoever had it went with its loop
        self._watch = open_watch(loop, self._fd, "write", self.step, self._transport)
        self._loop, self._home = loop, loop.mark
        self._descriptor.unblock()
