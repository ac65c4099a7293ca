"""Which item is done, where a worker's threads have several: no queue, no process."""

from aioipc.broker.leases import Leases

ME, OTHER = 1, 2


def test_a_thread_is_at_what_it_got_last():
    leases = Leases()
    leases.add(ME, 0, 1)  # which failed
    leases.add(ME, 1, 1)
    assert leases.end(ME) == 1
    assert leases.end(ME) == 0
    assert leases.end(ME) is None


def test_of_what_one_get_has_brought_the_first_comes_first():
    leases = Leases()
    leases.add(ME, 0, 1)
    leases.add(ME, 1, 3)
    assert [leases.end(ME) for _ in range(4)] == [1, 2, 3, 0]


def test_what_another_thread_got_does_not_matter():
    leases = Leases()
    leases.add(ME, 0, 1)
    leases.add(OTHER, 1, 1)
    assert leases.end(ME) == 0


def test_a_thread_that_gets_nothing_ends_what_others_got_in_that_order():
    leases = Leases()
    leases.add(OTHER, 0, 1)
    leases.add(OTHER, 1, 2)
    assert [leases.end(ME) for _ in range(3)] == [0, 1, 2]


def test_one_that_is_known_ends_once():
    leases = Leases()
    leases.add(OTHER, 0, 3)
    assert leases.end_one(1)
    assert not leases.end_one(1)
    assert [leases.end(ME), leases.end(ME), leases.end(ME)] == [0, 2, None]


def test_all_that_a_thread_has():
    leases = Leases()
    leases.add(ME, 0, 2)
    leases.add(OTHER, 2, 1)
    leases.add(ME, 3, 1)
    assert leases.end_all(ME) == [0, 1, 3]
    assert leases.end(ME) == 2


def test_what_was_not_got_after_all():
    leases = Leases()
    leases.add(ME, 0, 1)
    leases.add(ME, 1, 3)
    leases.add(ME, 4, 2)
    leases.end_get(4, but=6)
    leases.end_get(1, but=2)
    assert [leases.end(ME) for _ in range(3)] == [2, 0, None]
