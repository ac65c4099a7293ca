"""A worker's end of its private channel: two pipes, and the tokens of its tasks.

For each task that has been sent and not begun there is a token in an eventfd, which
worker and pool take one at a time: the worker before it begins a task, the pool to have
one back from the end. The kernel gives each token to one of them, so both know which
tasks never began.
"""

import os
from collections import deque
from collections.abc import Iterator
from fcntl import ioctl
from multiprocessing import reduction
from termios import FIONREAD
from time import perf_counter
from typing import Any, NamedTuple

from aioipc.wire.messages import Message, MessageDecoder, encode_header
from aioipc.wire.parts import drop_written
from aioipc.wire.tasks import NO_TASK, encode_released

__all__ = ["Channel", "Endpoints"]

LOOK = 1e-4
"""Seconds that a worker looks for its next task, where the last one came sooner.

To be woken on a halted CPU takes 30 to 45 µs: with this a lone call takes a third.
"""

_CHUNK = 1 << 16
_NOTHING = bytes(4)  # what FIONREAD says of an empty pipe


class Endpoints(NamedTuple):
    """What a worker is given, each a file descriptor, also by forkserver and spawn.

    :ivar tasks: a pipe that brings messages
    :ivar replies: a pipe that takes them
    :ivar tokens: an eventfd, non-blocking and in semaphore mode
    :ivar interrupts: a pipe that brings the numbers of tasks to be interrupted
    :ivar lifeline: a pipe that is closed when the coordinator ends
    :ivar crash_log: a file without a name, for faulthandler's last words
    :ivar arguments: a memfd that has large buffers of arguments, to be read
    :ivar results: a memfd for those of results
    """

    tasks: int
    replies: int
    tokens: int
    interrupts: int
    lifeline: int
    crash_log: int
    arguments: int
    results: int

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrive, tuple(map(reduction.DupFd, self))


def _arrive(*descriptors: Any) -> Endpoints:
    return Endpoints(*(descriptor.detach() for descriptor in descriptors))


class Channel:
    """Messages from and to the pool; blocking.

    :param may_look: whether there is a CPU for looking for a message before sleeping
    """

    def __init__(self, endpoints: Endpoints, cookie: bytes, *, may_look: bool) -> None:
        self._tasks, self._replies, self._tokens = endpoints[:3]
        self._cookie = cookie
        self._decoder = MessageDecoder(cookie)
        self.released: deque[int] = deque()  # slots of the pool's arena, to be told
        self._may_look = may_look
        self._looks = False  # because what came last came soon

    def __iter__(self) -> Iterator[Message]:
        """Yield messages until the pool closes its end."""
        decoder = self._decoder
        while True:
            while decoder.messages:
                yield decoder.messages.popleft()
            since = perf_counter()
            if self._looks:
                self._look(since + LOOK)
            if decoder.room:
                count = os.readv(self._tasks, [decoder.room])
                if not count:
                    return
                decoder.filled(count)
            else:
                data = os.read(self._tasks, _CHUNK)
                if not data:
                    return
                decoder.feed(data)
            self._looks = self._may_look and perf_counter() - since < LOOK

    def _look(self, until: float) -> None:
        """Look for what comes next, for a while, before sleeping until it comes."""
        fd = self._tasks
        while ioctl(fd, FIONREAD, _NOTHING) == _NOTHING and perf_counter() < until:
            os.sched_yield()

    def take_token(self) -> bool:
        """Take the next task of the batch; False if the pool has it back."""
        try:
            os.read(self._tokens, 8)
        except BlockingIOError:
            return False
        return True

    def send(
        self, kind: int, number: int = NO_TASK, body: bytes = b"", took: int = 0
    ) -> None:
        """Send a message."""
        header = encode_header(self._cookie, kind, number, len(body), took)
        if self.released:
            header = encode_released(self._cookie, self.released) + header
        if len(body) < _CHUNK:
            message = header + body
            count = os.write(self._replies, message)
            if count < len(message):
                self._send_rest([memoryview(message)[count:]])
        else:
            self._send_rest([memoryview(header), memoryview(body)])

    def tell_released(self) -> None:
        """Tell the pool of slots that are free, if there are some."""
        if self.released:
            message = encode_released(self._cookie, self.released)
            self._send_rest([memoryview(message)])

    def _send_rest(self, rest: list[memoryview]) -> None:
        while rest:
            drop_written(rest, os.writev(self._replies, rest))
