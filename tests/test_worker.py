"""A worker, driven by hand over its pipes: no pool, no event loop."""

import contextlib
import itertools
import multiprocessing
import os
import pickle
import secrets
import select
import signal
import struct

import pool_tasks as tasks
import pytest

from aioipc.wire.messages import COOKIE_SIZE, MessageDecoder, encode_header
from aioipc.wire.tasks import NO_TASK, Kind, decode_batch, encode_batch, encode_call
from aioipc.worker.channel import Endpoints
from aioipc.worker.main import Setup, serve

COOKIE = secrets.token_bytes(COOKIE_SIZE)
LONG = 30.0

_numbers = itertools.count(100)


class Coordinator:
    """The other end of a worker's channel; blocking."""

    def __init__(self, context, *, initializer=None, finalizer=None) -> None:
        tasks_end, self.tasks = os.pipe()
        self.replies, replies_end = os.pipe()
        self.tokens = os.eventfd(0, os.EFD_SEMAPHORE | os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        interrupts_end, self.interrupts = os.pipe()
        lifeline_end, self.lifeline = os.pipe()
        self.crash_log = os.memfd_create("crash log")
        self.arguments = os.memfd_create("arguments")
        self.results = os.memfd_create("results")
        ends = Endpoints(
            tasks_end,
            replies_end,
            self.tokens,
            interrupts_end,
            lifeline_end,
            self.crash_log,
            self.arguments,
            self.results,
        )
        setup = Setup(
            COOKIE,
            initializer,
            finalizer,
            is_fork=context.get_start_method() == "fork",
        )
        self.decoder = MessageDecoder(COOKIE)
        self.is_done = False
        self.process = context.Process(target=serve, args=(ends, setup))
        self.process.start()
        for fd in (tasks_end, replies_end, interrupts_end, lifeline_end):
            os.close(fd)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info) -> None:
        self.process.kill()
        self.process.join()
        self.process.close()
        for fd in (
            self.tasks,
            self.replies,
            self.tokens,
            self.interrupts,
            self.lifeline,
            self.crash_log,
            self.arguments,
            self.results,
        ):
            with contextlib.suppress(OSError):
                os.close(fd)

    def send(self, kind: Kind, number: int = NO_TASK, body: bytes = b"") -> None:
        os.write(self.tasks, encode_header(COOKIE, kind, number, len(body)) + body)

    def teach(self, number: int, function) -> None:
        self.send(Kind.FUNCTION, number, pickle.dumps(function))

    def give(self, *calls, tokens: int | None = None) -> None:
        """Send a batch of (task, function, arguments...)."""
        os.eventfd_write(self.tokens, len(calls) if tokens is None else tokens)
        encoded = [
            (task, number, pickle.dumps((args, {}))) for task, number, *args in calls
        ]
        parts = encode_batch(COOKIE, encoded)
        os.write(self.tasks, b"".join(parts))

    def interrupt(self, task: int) -> None:
        os.write(self.interrupts, struct.pack("!Q", task))

    def receive(self, within: float = LONG):
        """Return the next message's kind, number and object; None at the end."""
        poll = select.poll()
        poll.register(self.replies, select.POLLIN)
        while not self.decoder.messages:
            assert poll.poll(within * 1000), "nothing came"
            data = os.read(self.replies, 1 << 16)
            if not data:
                return None
            self.decoder.feed(data)
        kind, number, took, body = self.decoder.messages.popleft()
        self.is_done = took > 0  # with the batch
        if kind == Kind.GARBAGE:
            return Kind.GARBAGE, number, body
        return Kind(kind), number, pickle.loads(body) if body else None

    def result(self):
        """Return the outcome of the only task of a batch."""
        kind, _, value = self.receive()
        assert self.is_done
        return kind, value


@pytest.fixture
def ready(context):
    with Coordinator(context) as coordinator:
        assert coordinator.receive() == (Kind.READY, NO_TASK, None)
        yield coordinator


@pytest.fixture
def forked(fork):
    with Coordinator(fork) as coordinator:
        assert coordinator.receive() == (Kind.READY, NO_TASK, None)
        yield coordinator


def call(coordinator, function, *args):
    """Have one function called."""
    number = next(_numbers)
    coordinator.teach(number, function)
    coordinator.give((number, number, *args))
    return coordinator.result()


def test_calls_in_a_batch_are_answered_one_by_one_in_order(ready) -> None:
    ready.teach(7, divmod)
    ready.give((1, 7, 9, 4), (2, 7, 9, 5), (3, 7, 9, 0))
    assert ready.receive() == (Kind.VALUE, 1, (2, 1))
    assert ready.receive() == (Kind.VALUE, 2, (1, 4))
    kind, number, failure = ready.receive()
    assert (kind, number) == (Kind.ERROR, 3)
    assert isinstance(failure.rebuild(), ZeroDivisionError)
    assert ready.is_done


def test_what_the_pool_takes_back_is_not_begun(forked) -> None:
    forked.teach(1, abs)
    # Two of the five tokens are gone before the worker sees the batch.
    forked.give(*((n, 1, -n) for n in range(1, 6)), tokens=3)
    assert [forked.receive() for _ in range(4)] == [
        (Kind.VALUE, 1, 1),
        (Kind.VALUE, 2, 2),
        (Kind.VALUE, 3, 3),
        (Kind.DONE, NO_TASK, None),
    ]
    assert call(forked, abs, -9) == (Kind.VALUE, 9)


def test_each_task_is_begun_by_the_worker_or_taken_back_and_never_both(forked) -> None:
    count = 20_000
    forked.teach(1, abs)
    forked.give(*((n, 1, n) for n in range(count)))
    taken = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            os.read(forked.tokens, 8)
            taken += 1
    done = 0
    while not forked.is_done:
        if (message := forked.receive())[0] is Kind.VALUE:
            assert message[1] == done
            done += 1
    assert done + taken == count


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        SystemExit(3),
        GeneratorExit(),
        StopIteration(4),
        MemoryError(),
        tasks.TwoArguments("a", "b"),
        tasks.WithState("text", code=5),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_exception_arrives_with_its_arguments(error, forked) -> None:
    how = (type(error), error.args, vars(error))
    if isinstance(error, tasks.TwoArguments):
        kind, failure = call(forked, tasks.fail_with_two, "a", "b")
    elif isinstance(error, tasks.WithState):
        kind, failure = call(forked, tasks.fail_with_state, "text", 5)
    else:
        kind, failure = call(forked, tasks.fail_with, error)
    rebuilt = failure.rebuild()
    assert kind is Kind.ERROR
    assert (type(rebuilt), rebuilt.args, vars(rebuilt)) == how
    assert failure.doing == "run"
    assert "in fail_with" in failure.trace
    assert "aioipc/worker" not in failure.trace
    assert call(forked, abs, -1) == (Kind.VALUE, 1)


def test_recursion_to_the_limit_is_an_error_and_the_worker_goes_on(forked) -> None:
    kind, failure = call(forked, tasks.recurse)
    assert (kind, failure.kind) == (Kind.ERROR, "builtins.RecursionError")
    assert call(forked, abs, -1) == (Kind.VALUE, 1)


@pytest.mark.parametrize(
    ("function", "args", "doing"),
    [
        (tasks.return_lambda, (), "pickle"),
        (abs, (tasks.Unloadable(),), "load"),
    ],
)
def test_what_cannot_be_pickled_or_loaded_fails_one_task(
    function, args, doing, forked
) -> None:
    kind, failure = call(forked, function, *args)
    assert (kind, failure.doing) == (Kind.ERROR, doing)
    assert call(forked, abs, -1) == (Kind.VALUE, 1)


def test_an_exception_that_cannot_be_pickled_arrives_as_text(forked) -> None:
    kind, failure = call(forked, tasks.fail_unpicklably)
    assert kind is Kind.ERROR
    assert failure.rebuild() is None
    assert failure.kind.endswith("NotToBePickled")
    assert failure.text == "the reason"


def test_an_exception_whose_arguments_cannot_be_compared_arrives(forked) -> None:
    kind, failure = call(forked, tasks.fail_at_two, 2)
    rebuilt = failure.rebuild()
    assert (kind, type(rebuilt), rebuilt.args[0]) == (
        Kind.ERROR,
        ValueError,
        "bad rows",
    )
    assert isinstance(rebuilt.args[1], tasks.Incomparable)
    assert call(forked, abs, -1) == (Kind.VALUE, 1)


def test_an_exception_that_ends_what_asks_it_fails_one_task(forked) -> None:
    kind, failure = call(forked, tasks.fail_untellably)
    assert (kind, type(failure.rebuild())) == (Kind.ERROR, tasks.Untellable)
    assert failure.text == "<an exception that can't be printed>"
    assert call(forked, abs, -1) == (Kind.VALUE, 1)


# Messages


@pytest.mark.parametrize("size", [0, 100, 1 << 16, 1 << 20])
def test_a_call_alone_is_encoded_as_a_batch_of_one(size) -> None:
    call = 5, 3, os.urandom(size)
    alone = b"".join(encode_call(COOKIE, *call))
    assert alone == b"".join(encode_batch(COOKIE, [call]))
    decoder = MessageDecoder(COOKIE)
    decoder.feed(alone)
    ((kind, number, took, body),) = decoder.messages
    assert (kind, number, took) == (Kind.BATCH, NO_TASK, 0)
    assert decode_batch(body) == [call]


# Interrupts


@pytest.mark.parametrize("function", [tasks.loop_forever, tasks.sleep_forever])
def test_a_running_task_is_interrupted_and_the_worker_goes_on(
    function, ready, tmp_path
) -> None:
    begun = tmp_path / "begun"
    os.mkfifo(begun)
    ready.teach(1, function)
    ready.give((1, 1, begun))
    assert begun.read_bytes() == b"!"
    ready.interrupt(1)
    kind, failure = ready.result()
    assert (kind, failure.kind) == (Kind.ERROR, "aioipc.worker.interrupts.Interrupted")
    assert call(ready, abs, -1) == (Kind.VALUE, 1)


def test_an_interrupt_before_the_task_begins_is_remembered(forked) -> None:
    forked.interrupt(5)
    forked.teach(1, abs)
    forked.give((4, 1, -4), (5, 1, -5), (6, 1, -6))
    assert forked.receive() == (Kind.VALUE, 4, 4)
    kind, number, failure = forked.receive()
    assert (kind, number) == (Kind.ERROR, 5)
    assert isinstance(failure.rebuild(), BaseException)
    assert forked.receive() == (Kind.VALUE, 6, 6)


def test_an_interrupt_as_the_task_ends_never_hits_the_next(forked) -> None:
    forked.teach(1, tasks.spin)
    interrupted = 0
    for n in range(0, 2000, 2):
        forked.give((n, 1, 20e-6), (n + 1, 1, 20e-6))
        tasks.spin(1e-6 * (n % 300))  # until a moment of the one, the other or none
        forked.interrupt(n)
        first, second = forked.receive(), forked.receive()
        interrupted += first[0] is Kind.ERROR
        assert second[:2] == (Kind.VALUE, n + 1)
        assert forked.is_done
    assert interrupted > 0


# The end


def test_the_worker_ends_with_the_coordinator_whatever_it_is_doing(
    context, tmp_path
) -> None:
    with Coordinator(context) as coordinator:
        assert coordinator.receive()[0] is Kind.READY
        coordinator.teach(1, tasks.hold_gil)
        begun = tmp_path / "begun"
        os.mkfifo(begun)
        coordinator.give((1, 1, begun))
        assert begun.read_bytes() == b"!"
        os.close(coordinator.lifeline)
        coordinator.process.join(LONG)
        assert coordinator.process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("how", ["END", "closed"])
def test_at_the_end_the_finalizer_is_called(how, context, tmp_path) -> None:
    mark = tmp_path / "mark"
    with Coordinator(context, finalizer=(tasks.touch, (mark,))) as coordinator:
        assert coordinator.receive()[0] is Kind.READY
        if how == "END":
            coordinator.send(Kind.END)
        else:
            os.close(coordinator.tasks)
        coordinator.process.join(LONG)
        assert coordinator.process.exitcode == 0
        assert mark.exists()
        assert coordinator.receive() is None


def test_an_initializer_that_fails_is_told_and_ends_the_worker(context) -> None:
    failing = (tasks.fail_with, (ValueError("no"),))
    with Coordinator(context, initializer=failing) as coordinator:
        kind, number, failure = coordinator.receive()
        assert (kind, number, failure.text) == (Kind.ERROR, NO_TASK, "no")
        coordinator.process.join(LONG)
        assert coordinator.process.exitcode == 0


def test_garbage_on_every_descriptor_is_found_out(forked) -> None:
    forked.teach(1, tasks.write_garbage)
    forked.give((1, 1))
    kind, _, what = forked.receive()
    assert kind is Kind.GARBAGE
    assert what.startswith(b"xxx")
    # What stands behind it is not lost.
    while (message := forked.receive())[0] is Kind.GARBAGE:
        pass
    assert message == (Kind.VALUE, 1, None)


def test_a_forked_worker_has_no_descriptor_of_its_parent(fork) -> None:
    # Also none of the pipe that tells of another worker's end
    secret, _ = ends = os.pipe()
    with Coordinator(fork) as coordinator:
        assert coordinator.receive()[0] is Kind.READY
        inode = os.fstat(secret).st_ino
        assert call(coordinator, tasks.has_open, inode) == (Kind.VALUE, False)
    for fd in ends:
        os.close(fd)


def test_a_worker_imports_no_event_loop() -> None:
    with Coordinator(multiprocessing.get_context("spawn")) as coordinator:
        assert coordinator.receive()[0] is Kind.READY
        assert call(coordinator, tasks.frameworks) == (Kind.VALUE, [])
