"""A worker's locks when it is interrupted, or its connection breaks.

The broker's loop runs in a thread; the workers are this one, by links of their own.
"""

import threading
from collections.abc import Iterator

import anyio
import pytest
from broker_served import Served

from aioipc.broker import link as link_module
from aioipc.broker import remote, waiting

real_wait = waiting.wait


@pytest.fixture
def served(monkeypatch) -> Iterator[Served]:
    served = Served()
    monkeypatch.setattr(remote, "find_link", lambda *_: served.new_link())
    yield served
    served.close()


class Waiting:
    """A worker that waits in a condition, with another one behind it.

    :ivar order: who has been notified
    """

    def __init__(self, served: Served, monkeypatch) -> None:
        self.call = served.portal.call
        self.condition = self.call(served.broker.Condition)
        self.link = served.new_link()
        self.mine = self.use(served, self.link)
        self.other = self.use(served, served.new_link())
        self.is_armed = False
        self.woken = threading.Event()
        self.thread = threading.Thread(target=self.wait_behind, daemon=True)
        monkeypatch.setattr(waiting, "wait", self.wait)

    def use(self, served: Served, link) -> object:
        lock = served.use(self.condition._lock, link)
        condition = type(self.condition.sync)(self.condition._spec, lock)
        condition._attach(link)
        return condition

    def wait_behind(self) -> None:
        with self.other:
            assert self.other.wait()
            self.woken.set()

    def wait(self, link, ready, deadline=float("inf")) -> bool:
        """Be interrupted where the first waits: both do so, and the lock is ours."""
        if link is not self.link or not self.is_armed:
            return real_wait(link, ready, deadline)
        self.is_armed = False
        self.call(self.so_many_wait, 1)
        self.thread.start()
        self.call(self.so_many_wait, 2)
        self.call(self.condition.acquire)
        self.interrupt()
        raise KeyboardInterrupt

    async def so_many_wait(self, count: int) -> None:
        with anyio.fail_after(20):
            while len(self.condition._primitive.waiting) < count:  # noqa: ASYNC110
                await anyio.sleep(0.0005)

    def interrupt(self) -> None:
        """What happens before the interrupt comes."""

    def wake_other(self) -> None:
        self.call(self.condition.acquire)
        self.call(self.condition.notify)
        self.call(self.condition.release)


@pytest.fixture
def pair(served, monkeypatch) -> Waiting:
    return Waiting(served, monkeypatch)


def wait_in(pair: Waiting) -> None:
    with pair.mine:
        pair.is_armed = True
        pair.mine.wait()


def is_free(pair: Waiting) -> bool:
    async def acquire() -> bool:
        return await pair.condition.acquire(timeout=20)

    if not pair.call(acquire):
        return False
    pair.call(pair.condition.release)
    return True


def test_who_is_interrupted_after_it_was_notified_passes_that_on(pair) -> None:
    def interrupt() -> None:
        pair.call(pair.condition.notify)
        pair.call(pair.condition.release)

    pair.interrupt = interrupt
    with pytest.raises(KeyboardInterrupt):
        wait_in(pair)
    assert pair.woken.wait(20)
    pair.thread.join()
    assert is_free(pair)


def test_who_is_interrupted_and_was_not_notified_wakes_no_one(pair) -> None:
    pair.interrupt = lambda: pair.call(pair.condition.release)
    with pytest.raises(KeyboardInterrupt):
        wait_in(pair)
    assert is_free(pair)
    assert len(pair.condition._primitive.waiting) == 1
    pair.wake_other()
    pair.thread.join()


@pytest.mark.parametrize("notified", [True, False])
def test_who_is_interrupted_twice_releases_nothing(pair, monkeypatch, notified) -> None:
    """The lock is the coordinator's; later, it is no one's."""

    def interrupted(*_) -> None:
        raise KeyboardInterrupt

    if notified:
        pair.interrupt = lambda: pair.call(pair.condition.notify)
    monkeypatch.setattr("aioipc.broker.remote_locks.wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        wait_in(pair)
    assert pair.call(pair.condition._lock.locked)
    # What it has said has arrived, and it holds nothing.
    with pytest.raises(RuntimeError, match="un-acquired"):
        pair.mine.notify()
    pair.call(pair.condition.release)
    assert is_free(pair)
    if not notified:
        pair.wake_other()
    assert pair.woken.wait(20)
    pair.thread.join()
    with pair.mine:
        assert pair.call(pair.condition._lock.locked)
    assert is_free(pair)


def test_who_is_interrupted_before_it_has_asked_still_holds_the_lock(
    served, monkeypatch
) -> None:
    condition = served.portal.call(served.broker.Condition)
    link = served.new_link()
    lock = served.use(condition._lock, link)
    mine = type(condition.sync)(condition._spec, lock)
    mine._attach(link)

    def interrupted(*_) -> None:
        raise KeyboardInterrupt

    with mine:
        with monkeypatch.context() as patch:
            patch.setattr(link_module.Link, "ask", interrupted)
            with pytest.raises(KeyboardInterrupt):
                mine.wait()
        assert served.portal.call(condition._lock.locked)
        mine.notify()
    assert not served.portal.call(condition._lock.locked)


def in_thread(function, *args) -> None:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function(*args)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def test_permits_do_not_multiply_when_a_link_breaks(served) -> None:
    semaphore = served.portal.call(served.broker.Semaphore, 3)
    link = served.new_link()
    remote = served.use(semaphore, link)
    for _ in range(3):
        assert remote.acquire()
    served.end_link(link)
    in_thread(remote.acquire)
    with pytest.raises(BrokenPipeError):
        remote.release()
    with pytest.raises(BrokenPipeError):
        remote.release(3)  # of which one is held
    assert remote.get_value() == 3
    remote.release()  # as a semaphore may
    assert remote.get_value() == 4


def test_a_lock_is_not_released_by_who_has_lost_it(served) -> None:
    lock = served.portal.call(served.broker.Lock)
    link = served.new_link()
    remote = served.use(lock, link)
    assert remote.acquire()
    served.end_link(link)
    in_thread(remote.acquire)
    with pytest.raises(BrokenPipeError):
        remote.release()
    assert remote.locked()
    remote.release()
    assert not remote.locked()


def test_who_has_lost_one_permit_releases_another_that_it_has(served) -> None:
    """What it left to others to release is not in its way for ever."""
    semaphore = served.portal.call(served.broker.Semaphore, 2)
    link = served.new_link()
    remote = served.use(semaphore, link)
    assert remote.acquire()
    served.end_link(link)
    for _ in range(2):
        with remote:
            assert remote.get_value() == 1
        assert remote.get_value() == 2
    with pytest.raises(BrokenPipeError):
        remote.release()
    assert remote.get_value() == 2


def test_a_lock_that_others_have_released_leaves_nothing_lost(served) -> None:
    lock = served.portal.call(served.broker.Lock)
    link = served.new_link()
    remote = served.use(lock, link)
    for _ in range(2):
        in_thread(remote.acquire)
        served.portal.call(lock.release)
    with remote:
        served.end_link(link)
        with pytest.raises(BrokenPipeError):
            remote.release()
        remote.acquire()
    assert not remote.locked()


@pytest.mark.parametrize("kind", ["Lock", "Semaphore"])
def test_a_fork_while_its_parent_holds_it_releases_its_own(served, kind) -> None:
    link = served.new_link()
    remote = served.use(served.portal.call(getattr(served.broker, kind)), link)
    assert remote.acquire()
    served.end_link(link)  # for the child it is closed
    remote.forget()
    with remote:
        assert remote.locked()
    assert not remote.locked()
