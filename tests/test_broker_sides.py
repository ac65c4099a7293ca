"""A queue or lock of a broker is used alike in the coordinator and in a worker."""

import inspect
import queue

import pytest

import aioipc

PAIRS = [
    (aioipc.BrokerQueue, aioipc.RemoteQueue),
    (aioipc.BrokerDeque, aioipc.RemoteDeque),
    (aioipc.BrokerLock, aioipc.RemoteLock),
    (aioipc.BrokerSemaphore, aioipc.RemoteSemaphore),
    (aioipc.BrokerEvent, aioipc.RemoteEvent),
    (aioipc.BrokerCondition, aioipc.RemoteCondition),
    (aioipc.BrokerBarrier, aioipc.RemoteBarrier),
]

HERE = {
    *("receive", "send", "send_eof", "aclose", "close", "extra", "extra_attributes"),
    *("sync", "statistics", "core", "service"),
}
"""What only the coordinator has."""

THERE = {"lease", "give_back", "at", "forget"}
"""What only a worker has."""


def public(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")}


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[1].__name__)
def test_both_sides_have_the_same_methods(pair) -> None:
    here, there = pair
    assert public(here) - HERE == public(there) - THERE
    for name in public(there) - THERE:
        mine, theirs = getattr(here, name), getattr(there, name)
        if callable(mine):
            parameters = [*inspect.signature(mine).parameters]
            assert [*inspect.signature(theirs).parameters] == parameters, name


def test_both_ends_of_a_deque_without_waiting(served) -> None:
    deque = served.portal.call(served.broker.Deque, 3)
    remote = served.use(deque, served.new_link())
    remote.append_nowait(2)
    remote.appendleft_nowait(1)
    remote.append(3)
    for put in (remote.append_nowait, remote.appendleft_nowait):
        with pytest.raises(queue.Full):
            put(4)
    assert remote.maxsize == 3
    assert remote.pop_nowait() == 3
    assert remote.popleft_nowait() == 1
    assert remote.pop(timeout=5) == 2
    for get in (remote.pop_nowait, remote.popleft_nowait):
        with pytest.raises(queue.Empty):
            get()
    with pytest.raises(queue.Empty):
        remote.popleft(timeout=0)


def test_what_a_worker_sees_of_locks(served) -> None:
    call, broker = served.portal.call, served.broker
    link = served.new_link()
    assert served.use(call(broker.Barrier, 3), link).parties == 3
    semaphore = call(broker.Semaphore, 1)
    remote = served.use(semaphore, link)
    assert not remote.locked()
    with remote:
        assert remote.locked()
        assert call(semaphore.locked)
    condition = call(broker.Condition)
    remote = type(condition.sync)(condition._spec, served.use(condition._lock, link))
    assert not remote.locked()
    with remote:
        assert remote.locked()
        assert call(condition.locked)
