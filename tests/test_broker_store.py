"""What a broker's queue decides; tasks and workers are objects that take and wait."""

import pytest
from broker_workers import Source, Task, Worker, drain, get, put, values

from aioipc.broker import store as store_module
from aioipc.broker.shelves import Heap, Item, Line, Shelf
from aioipc.broker.store import STALE, Store
from aioipc.wire.shutdown import ShutDown


@pytest.fixture
def store() -> Store:
    return Store(Line())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set."""
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    assert store_module.time.monotonic() == 1000.0
    return now


# Shelves


def fill(shelf: Shelf, *values: object, left: bool = False) -> list[Item]:
    items = [Item(value) for value in values]
    for item in items:
        shelf.push(item, left=left)
    return items


def empty(shelf: Shelf, *, left: bool = True) -> list[object]:
    return values(shelf.pop(left=left) for _ in range(len(shelf)))


def test_a_line_is_first_in_first_out_or_last_in_first_out_by_the_end():
    line = Line()
    fill(line, 1, 2, 3)
    assert empty(line) == [1, 2, 3]
    fill(line, 1, 2, 3)
    assert empty(line, left=False) == [3, 2, 1]


def test_a_line_takes_and_adds_at_both_ends():
    line = Line()
    fill(line, 1, 2)
    fill(line, 3, 4, left=True)
    assert values([line.pop(), line.pop(left=False)]) == [4, 2]
    assert empty(line) == [3, 1]


def test_a_heap_has_the_smallest_first_and_of_equal_ones_the_one_that_came_first():
    heap = Heap()
    first, second = Item((1, "first")), Item((1, "first"))
    for item in (Item((2, "")), first, second, Item((0, ""))):
        heap.push(item)
    assert heap.pop().value == (0, "")
    assert heap.pop() is first
    assert heap.pop() is second


@pytest.mark.parametrize("gone", [[0, 1], [1, 3], [2], [3, 4], [0, 1, 2, 3, 4]])
@pytest.mark.parametrize("shelf", [Line(), Heap()])
def test_what_comes_back_lies_where_it_was(shelf, gone):
    items = [Item(number) for number in range(5)]
    for item in items:
        shelf.push(item)
    shelf.clear()
    shelf.restore(item for number, item in enumerate(items) if number not in gone)
    shelf.restore(items[number] for number in reversed(gone))
    assert len(shelf) == 5
    assert empty(shelf) == [0, 1, 2, 3, 4]


def test_what_comes_back_to_both_ends_of_a_line_lies_where_it_was():
    line = Line()
    fill(line, 2, 3)
    left, right = fill(line, 1, left=True), fill(line, 4)
    assert values([line.pop(), line.pop(left=False)]) == [1, 4]
    fill(line, 5)
    fill(line, 0, left=True)
    line.restore(right + left)
    assert empty(line) == [0, 1, 2, 3, 4, 5]


def test_nothing_comes_back_to_a_line():
    line = Line()
    fill(line, 1)
    line.restore([])
    assert empty(line) == [1]


def test_equal_items_that_come_back_to_a_heap_keep_their_turn():
    heap = Heap()
    items = [Item(7) for _ in range(4)]
    for item in items:
        heap.push(item)
    taken = [heap.pop(), heap.pop()]
    heap.restore(reversed(taken))
    assert [heap.pop() for _ in items] == items


class Strange:
    """Can't be compared."""

    def __lt__(self, other):
        raise ArithmeticError


@pytest.mark.parametrize(
    ("value", "error"),
    [({}, TypeError), ("x", TypeError), (Strange(), ArithmeticError)],
)
def test_what_cannot_be_compared_is_refused_at_the_put_and_harms_nothing(value, error):
    store = Store(Heap())
    put(store, 2, 3, 1)
    with pytest.raises(error):
        put(store, value)
    assert store.unfinished == store.qsize() == 3
    assert drain(store) == [1, 2, 3]


def test_a_first_item_that_cannot_be_compared_is_refused_too():
    store = Store(Heap())
    with pytest.raises(TypeError):
        put(store, {})
    assert store.unfinished == store.qsize() == 0


def test_items_that_turn_out_not_to_be_comparable_are_all_there():
    store = Store(Heap())
    put(store, (0, {}), (2, {}), (2, {}), (1, {}), (2, {}))
    assert [rank for rank, _ in drain(store)] == [0, 1, 2, 2, 2]


# Putting


def test_a_full_queue_takes_no_more_at_once():
    store = Store(Line(), 2)
    put(store, 1)
    assert not store.is_full
    put(store, 2)
    assert store.is_full
    assert not store.put_nowait(Item(3))
    assert store.unfinished == 2


def test_a_queue_of_a_negative_size_is_never_full():
    store = Store(Line(), -1)
    put(store, *range(100))
    assert not store.is_full


def test_those_who_wait_to_put_are_admitted_in_order():
    store = Store(Line(), 1)
    put(store, 0)
    sources = [Source(store, number) for number in (1, 2, 3)]
    assert drain(store) == [0]
    assert [source.is_admitted for source in sources] == [True, False, False]
    assert [get(store) for _ in range(3)] == [1, 2, 3]
    assert [source.is_admitted for source in sources] == [True, True, True]


def test_no_one_puts_at_once_while_others_wait_to_put():
    store = Store(Line(), 2)
    put(store, 0)
    source = Source(store, 1, 2, 3)
    assert not source.is_admitted
    assert not store.put_nowait(Item("pushy"))
    assert [get(store) for _ in range(4)] == [0, 1, 2, 3]
    assert source.is_admitted
    put(store, "polite")


def test_many_items_are_put_one_after_the_other_as_there_is_room():
    store = Store(Line(), 2)
    first, second = Source(store, 1, 2, 3, 4), Source(store, 5)
    assert first.rest == [3, 4]
    assert [get(store), get(store)] == [1, 2]
    assert first.is_admitted
    assert not second.is_admitted
    assert [get(store) for _ in range(3)] == [3, 4, 5]
    assert store.unfinished == 5


def test_who_puts_nothing_waits_for_nothing():
    store = Store(Line(), 1)
    put(store, 1)
    assert Source(store).is_admitted
    assert drain(store) == [1]


def test_who_gives_up_putting_has_put_what_there_was_room_for():
    store = Store(Line(), 1)
    first, second = Source(store, 1, 2, 3), Source(store, 4)
    assert store.withdraw_putter(first)
    assert not store.withdraw_putter(first)
    assert first.rest == [2, 3]
    assert [get(store), get(store)] == [1, 4]
    assert second.is_admitted
    assert not store.withdraw_putter(second)


def test_putting_on_the_left_waits_for_room_too():
    store = Store(Line(), 2)
    put(store, 1, 2)
    source = Source(store, 0, left=True)
    assert get(store, left=False) == 2
    assert source.is_admitted
    assert drain(store) == [0, 1]


def test_who_waits_with_what_cannot_be_compared_hears_of_it_and_the_next_goes_on():
    store = Store(Heap(), 1)
    put(store, 5)
    bad, good = Source(store, 3, {}, 4), Source(store, 2)
    assert get(store) == 5
    assert get(store) == 3  # of the bad one
    assert get(store) == 2, "the shelf is empty then, and {} compared with itself"
    assert isinstance(bad.error, TypeError)
    assert bad.rest == [{}, 4]
    assert good.is_admitted
    assert store.unfinished == 3


# Getting


def test_those_who_wait_to_get_are_served_in_order(store):
    tasks = [Task(store) for _ in range(3)]
    put(store, 1, 2)
    assert [task.got for task in tasks] == [[1], [2], []]


def test_who_waits_for_several_has_what_there_is(store):
    put(store, 1, 2, 3)
    assert Task(store, 2).got == [1, 2]
    assert Task(store, 2).got == [3]


def test_who_gives_up_waiting_gets_nothing(store):
    first, second = Task(store), Task(store)
    assert store.withdraw_getter(first)
    assert not store.withdraw_getter(first)
    put(store, 1)
    assert not first.items
    assert second.got == [1]
    assert not store.withdraw_getter(second)


def test_what_a_cancelled_get_gives_back_goes_to_the_next_in_its_place(store):
    first = Task(store, 2)
    put(store, 1)
    put(store, 2, 3)
    second = Task(store)
    assert second.got == [2]
    store.restore(first.items)
    assert drain(store) == [1, 3]


def test_what_is_given_back_goes_to_one_who_waits(store):
    first, second = Task(store), Task(store)
    put(store, 1)
    store.restore(first.items)
    assert second.got == [1]


def test_getting_makes_room_for_who_waits_to_put():
    store = Store(Line(), 1)
    task, source = Task(store, 3), Source(store, 1, 2)
    assert task.got == [1]
    assert source.is_admitted
    assert drain(store) == [2]


def test_who_waits_takes_from_the_end_that_he_chose(store):
    put(store, 1, 2, 3, 4)
    assert Task(store, 2, left=False).got == [4, 3]
    assert Task(store, 2).got == [1, 2]


# Workers


def test_a_worker_takes_what_it_is_lent_in_order(store):
    worker = Worker(store)
    put(store, 1, 2, 3)
    worker.ask(3)
    assert worker.take(2) == [1, 2]
    assert store.qsize() == 1
    assert worker.take(2) == [3]
    assert store.qsize() == 0


def test_who_asks_ahead_is_served_after_who_has_nothing_to_do(store):
    busy, idle = Worker(store), Worker(store)
    busy.ask_ahead(2)
    idle.ask()
    task = Task(store)
    put(store, 1, 2, 3)
    assert idle.take() == [1]
    assert task.got == [2]
    assert busy.take() == [3]


def test_who_asks_ahead_leaves_others_their_share(store):
    workers = [Worker(store) for _ in range(3)]
    put(store, *range(7))
    for worker in workers:
        worker.ask_ahead(100)
    assert [worker.take(100) for worker in workers] == [[0, 1, 2], [3, 4], [5]]
    assert drain(store) == [6]


def test_a_worker_alone_has_all_that_it_asks_for_ahead(store):
    worker = Worker(store)
    put(store, *range(7))
    worker.ask_ahead(5)
    assert worker.take(100) == [0, 1, 2, 3, 4]


def test_a_worker_that_becomes_idle_goes_before_those_that_ask_ahead(store):
    first, second = Worker(store), Worker(store)
    first.ask_ahead()
    second.ask_ahead()
    second.hurry()
    put(store, 1)
    assert second.take() == [1]
    assert first.take() == []


def test_whose_items_are_called_back_gets_no_more_ahead_until_it_waits(store):
    slow, quick = Worker(store), Worker(store)
    put(store, 1, 2, 3)
    slow.ask(3)
    slow.take()
    slow.ask_ahead(2)
    quick.ask()
    assert quick.take() == [2]
    put(store, 4)
    assert store.qsize() == 2, "of which none is with the slow one"
    assert slow.take() == []
    slow.hurry()
    assert slow.take(9) == [3], "its share"


def test_items_that_wait_with_a_busy_worker_go_to_an_idle_one(store):
    busy, idle = Worker(store), Worker(store)
    put(store, 1, 2, 3, 4)
    busy.ask(4)
    assert busy.take(2) == [1, 2]
    idle.ask()
    assert idle.take() == [3]
    assert busy.take() == []
    assert drain(store) == [4]


def test_items_that_wait_with_a_busy_worker_go_to_whoever_gets_at_once(store):
    busy = Worker(store)
    put(store, 1, 2, 3)
    busy.ask(3)
    assert busy.take() == [1]
    put(store, 4)
    assert get(store) == 4, "what lies here is nearer"
    assert [get(store), get(store), get(store)] == [2, 3, None]
    assert busy.take() == []
    busy.ask()
    put(store, 5)
    assert busy.take() == [5]


def test_what_waited_too_long_is_not_overtaken_by_what_lies_here(store, clock):
    slow = Worker(store)
    put(store, 1, 2, 3)
    slow.ask(3)
    slow.take()
    put(store, 4)
    clock[0] += 2 * STALE
    assert drain(store) == [2, 3, 4]


def test_what_no_one_waits_for_any_more_waits_from_then_on(store, clock):
    first, second = Worker(store), Worker(store)
    first.ask()
    put(store, 1)
    clock[0] += STALE / 2
    put(store, 2, 3)
    second.ask(2)
    clock[0] += STALE * 0.75
    first.withdraw()
    put(store, 4)
    clock[0] += STALE / 2
    assert get(store) == 2, "for 1 has lain there for less than it may"
    clock[0] += STALE
    assert drain(store) == [1, 3, 4]


def test_what_is_called_back_from_several_workers_is_in_order_again(store):
    workers = [Worker(store) for _ in range(3)]
    put(store, *range(9))
    for worker in workers:
        worker.ask(3)
    assert [worker.take() for worker in workers] == [[0], [3], [6]]
    assert Task(store, 9).got == [1, 2, 4, 5, 7, 8]


def test_one_item_for_one_who_waits_is_not_called_back(store):
    worker = Worker(store)
    worker.ask()
    put(store, 1)
    task = Task(store)
    assert get(store) is None
    assert worker.take() == [1]
    assert not task.items


def test_an_item_is_called_back_for_one_who_waits_if_the_worker_waits_no_more(store):
    worker = Worker(store)
    worker.ask()
    task = Task(store)
    put(store, 1)
    worker.withdraw()
    assert task.got == [1]
    assert worker.take() == []


def test_an_item_that_no_one_else_waits_for_stays_with_who_waits_no_more(store):
    worker = Worker(store)
    worker.ask()
    put(store, 1)
    worker.withdraw()
    assert store.qsize() == 1
    assert worker.take() == [1]
    assert store.qsize() == 0
    worker.withdraw()  # of nothing


def test_what_waited_too_long_with_a_busy_worker_is_shared(store, clock):
    slow, quick = Worker(store), Worker(store)
    put(store, *range(6))
    slow.ask(4)
    assert slow.take() == [0]
    assert quick.ask_ahead(2).worker.take(9) == [4], "its share of what is left"
    clock[0] += 2 * STALE
    quick.ask_ahead(9)
    assert quick.take(9) == [1, 2], "its share of 1, 2, 3 and 5"
    assert slow.take() == []
    assert drain(store) == [3, 5]


def test_a_worker_that_was_through_with_its_items_is_lent_more_ahead(store, clock):
    worker = Worker(store)
    put(store, 1, 2)
    worker.ask(2)
    worker.take(2)
    clock[0] += 2 * STALE
    put(store, 3)
    worker.ask_ahead()
    assert worker.take() == [3]


def test_what_has_just_been_lent_is_not_shared(store, clock):
    slow, quick = Worker(store), Worker(store)
    put(store, *range(4))
    slow.ask(4)
    clock[0] += STALE / 2
    quick.ask_ahead(9)
    assert quick.take() == []
    assert slow.take(9) == [0, 1, 2, 3]


def test_restored_items_are_taken_before_younger_ones_that_wait_with_a_worker(store):
    worker, task = Worker(store), Task(store)
    put(store, 1)
    put(store, 2, 3)
    worker.ask(2)
    store.restore(task.items)
    assert worker.take() == []
    assert drain(store) == [1, 2, 3]


@pytest.mark.parametrize("tokens", [True, False])
def test_what_a_dead_worker_has_not_taken_goes_back_to_its_place(store, tokens):
    worker = Worker(store, tokens=tokens)
    put(store, 1, 2, 3, 4, 5)
    worker.ask(2)
    worker.ask(2)
    assert worker.take(1) == [1]
    worker.die()
    assert drain(store) == [2, 3, 4, 5]
    assert store.unfinished == 4, "no one will say that 1 is done"


@pytest.mark.parametrize("tokens", [True, False])
def test_what_a_dead_worker_had_on_lease_goes_back_to_its_place(store, tokens):
    worker = Worker(store, manual=True, tokens=tokens)
    put(store, 1, 2, 3, 4, 5)
    worker.ask(2)
    worker.ask(2)
    assert worker.take(3) == [1, 2, 3]
    worker.done(2)
    worker.die()
    assert drain(store) == [1, 3, 4, 5]
    assert store.unfinished == 4


@pytest.mark.parametrize("tokens", [True, False])
def test_what_a_worker_gives_back_goes_to_its_place(store, tokens):
    worker = Worker(store, manual=True, tokens=tokens)
    put(store, 1, 2, 3, 4, 5)
    worker.ask(4)
    assert worker.take(3) == [1, 2, 3]
    worker.give_back(2)
    with pytest.raises(ValueError, match="not"):
        worker.consumer.give_back(1)
    worker.die()
    assert drain(store) == [1, 2, 3, 4, 5]
    assert store.unfinished == 5


def test_what_a_worker_gives_back_ends_the_wait_of_who_gets_from_a_shut_queue(store):
    worker, other = Worker(store, manual=True), Worker(store, manual=True)
    put(store, 1)
    worker.ask()
    worker.take()
    other.ask()
    store.shutdown()
    assert not other.refusals
    worker.give_back(1)
    assert other.take() == [1]
    worker.ask()
    other.done(1)
    assert worker.refusals


def test_only_what_is_on_lease_can_be_given_back(store):
    worker = Worker(store)
    put(store, 1)
    worker.ask()
    worker.take()
    with pytest.raises(ValueError, match="not"):
        worker.consumer.give_back(0)


@pytest.mark.parametrize("tokens", [True, False])
@pytest.mark.parametrize("manual", [True, False])
def test_what_a_worker_does_not_wait_for_any_more_is_had_by_others(
    store, tokens, manual
):
    worker = Worker(store, manual=manual, tokens=tokens)
    put(store, 1, 2, 3)
    worker.ask(3)
    assert worker.take() == [1]
    worker.withdraw()
    task = Task(store, 2)
    assert task.got == [2, 3]
    assert worker.take() == []
    worker.die()
    assert drain(store) == ([1] if manual else [])


def test_what_a_dead_worker_leaves_goes_to_one_who_waits(store):
    worker, other = Worker(store, manual=True), Worker(store, manual=True)
    put(store, 1, 2)
    worker.ask()
    worker.take()
    worker.ask()
    other.ask()
    task = Task(store)
    worker.die()
    assert other.take() == [1]
    assert task.got == [2]


def test_a_dead_worker_asks_for_nothing(store):
    worker = Worker(store)
    worker.ask()
    worker.ask_ahead()
    worker.die()
    put(store, 1)
    assert drain(store) == [1]
    assert not store.consumers


def test_what_was_called_back_is_not_the_dead_worker_s(store):
    worker = Worker(store, manual=True)
    put(store, 1, 2, 3)
    worker.ask(3)
    worker.take()
    assert get(store) == 2
    worker.die()
    assert drain(store) == [1, 3]


# Joining


def test_join_is_over_when_all_is_done(store):
    heard: list[str] = []
    put(store, 1, 2)
    store.joiners[lambda: heard.append("first")] = None
    store.joiners[lambda: heard.append("second")] = None
    store.finish()
    assert heard == []
    store.finish()
    assert heard == ["first", "second"]
    with pytest.raises(ValueError, match="too many times"):
        store.finish()


@pytest.mark.parametrize("manual", [True, False])
def test_workers_say_what_is_done(store, manual):
    worker = Worker(store, manual=manual)
    put(store, 1, 2)
    worker.ask(2)
    worker.take(2)
    worker.done(2)
    assert store.unfinished == 1
    worker.done(1)
    assert store.unfinished == 0
    worker.die()
    assert store.unfinished == store.qsize() == 0


def test_a_lease_ends_once(store):
    worker = Worker(store, manual=True)
    put(store, 1, 2)
    worker.ask()
    worker.take()
    worker.consumer.done(0)
    with pytest.raises(ValueError, match="too many times"):
        worker.consumer.done(0)
    assert store.unfinished == 1


def test_a_worker_may_say_that_is_done_what_someone_else_said_before(store):
    worker = Worker(store)
    put(store, 1)
    worker.ask()
    worker.take()
    store.finish()
    worker.done(1)
    worker.die()
    assert store.unfinished == 0


def test_the_end_of_a_worker_that_was_through_changes_nothing(store):
    worker = Worker(store)
    put(store, 1, 2)
    worker.ask()
    worker.take()
    worker.done(1)
    worker.die()
    assert store.unfinished == 1


# Shutting down


def test_what_is_in_a_queue_that_is_shut_down_can_be_had(store):
    put(store, 1, 2)
    store.shutdown()
    assert get(store) == 1
    assert Task(store).got == [2]
    assert Task(store).is_refused
    with pytest.raises(ShutDown):
        get(store)
    with pytest.raises(ShutDown):
        put(store, 3)
    with pytest.raises(ShutDown):
        Source(store, 3)
    assert store.unfinished == 2


def test_shutting_down_refuses_all_who_wait():
    store = Store(Line(), 1)
    tasks = [Task(store), Task(store, idle=False)]
    store.shutdown()
    assert all(task.is_refused for task in tasks)
    store = Store(Line(), 1)
    sources = [Source(store, 1, 2), Source(store, 3)]
    store.shutdown()
    assert all(isinstance(source.error, ShutDown) for source in sources)
    assert sources[0].rest == [2]
    assert drain(store) == [1]


def test_an_immediate_shutdown_drops_what_no_one_has_taken(store):
    heard: list[bool] = []
    worker = Worker(store)
    put(store, 1, 2, 3, 4)
    worker.ask(3)
    worker.take()
    store.joiners[lambda: heard.append(True)] = None
    store.shutdown(immediate=True)
    assert worker.take() == []
    assert store.qsize() == 0
    assert store.unfinished == 1
    with pytest.raises(ShutDown):
        get(store)
    assert not heard
    worker.done(1)
    assert heard


@pytest.mark.parametrize("manual", [True, False])
def test_nothing_goes_back_to_a_queue_that_was_dropped(store, manual):
    worker, task = Worker(store, manual=manual), Task(store)
    put(store, 1, 2, 3)
    worker.ask()
    worker.take()
    worker.ask()
    store.shutdown(immediate=True)
    store.restore(task.items)
    worker.die()
    assert store.qsize() == store.unfinished == 0


def test_no_one_waits_for_what_is_on_lease_when_a_queue_is_dropped(store):
    worker = Worker(store, manual=True)
    put(store, 1)
    worker.ask()
    worker.take()
    store.shutdown(immediate=True)  # what is on lease would not come back, either
    assert Task(store).is_refused
    worker.die()
    assert store.unfinished == 0


def test_a_second_shutdown_may_drop_what_the_first_has_left(store):
    put(store, 1, 2)
    store.shutdown()
    store.shutdown(immediate=True)
    with pytest.raises(ShutDown):
        get(store)
    assert store.unfinished == 0


def test_an_immediate_shutdown_after_all_was_said_to_be_done(store):
    put(store, 1, 2)
    store.finish(2)
    store.shutdown(immediate=True)
    assert store.qsize() == store.unfinished == 0


def test_the_death_of_a_worker_whose_items_were_said_to_be_done(store):
    worker = Worker(store, manual=True)
    put(store, 1)
    worker.ask()
    worker.take()
    store.finish()
    store.shutdown(immediate=True)
    worker.die()
    assert store.unfinished == 0


def test_what_was_on_its_way_to_a_queue_that_is_shut_down_is_taken_in(store):
    store.shutdown()
    store.put_late([Item(1), Item(2)])
    assert drain(store) == [1, 2]
    store.shutdown(immediate=True)
    store.put_late([Item(3)])
    assert store.qsize() == 0
    assert store.unfinished == 2


def test_who_asked_ahead_is_refused_but_has_what_it_was_lent(store):
    worker = Worker(store)
    put(store, 1, 2)
    worker.ask(2)
    worker.ask_ahead()
    store.shutdown()
    assert worker.refusals == 1
    assert worker.take(9) == [1, 2]


def test_what_waits_with_a_busy_worker_goes_to_an_idle_one_after_a_shutdown(store):
    busy, idle = Worker(store), Worker(store)
    put(store, 1, 2)
    busy.ask(2)
    busy.take()
    store.shutdown()
    idle.ask()
    assert idle.take() == [2]
    idle.ask()
    assert idle.refusals == 1


def test_what_a_dead_worker_leaves_in_a_queue_that_is_shut_down_can_be_had(store):
    worker = Worker(store, manual=True)
    put(store, 1)
    worker.ask()
    worker.take()
    store.shutdown()
    worker.die()
    assert Task(store).got == [1]


# ... while items may come back


def test_who_waits_is_not_refused_while_a_task_may_yet_be_cancelled(store):
    first, second = Task(store, slow=True), Task(store)
    put(store, 1)
    store.shutdown()
    assert not second.is_refused
    assert get(store) is None
    first.cancel()
    assert second.got == [1]


def test_who_waits_is_refused_when_the_task_goes_on(store):
    first, second = Task(store, slow=True), Task(store)
    put(store, 1)
    store.shutdown()
    first.go_on()
    assert second.is_refused
    with pytest.raises(ShutDown):
        get(store)


@pytest.mark.parametrize("tokens", [True, False])
def test_who_waits_has_what_another_has_been_sent_when_that_one_dies(store, tokens):
    stopped, idle = Worker(store, tokens=tokens), Worker(store)
    stopped.ask()
    idle.ask()
    put(store, 1)
    store.shutdown()
    assert not idle.refusals
    stopped.die()
    assert idle.take() == [1]


@pytest.mark.parametrize("tokens", [True, False])
def test_who_waits_is_refused_when_another_takes_what_it_has_been_sent(store, tokens):
    slow, idle = Worker(store, tokens=tokens), Worker(store)
    slow.ask()
    idle.ask()
    put(store, 1)
    store.shutdown()
    assert slow.take() == [1]  # and says no more
    assert idle.refusals == 1


def test_no_one_waits_for_what_is_under_way_when_a_queue_is_dropped(store):
    slow, task = Worker(store), Task(store, slow=True)
    slow.ask()
    put(store, 1, 2)
    store.shutdown(immediate=True)
    assert Task(store).is_refused
    task.cancel()
    assert store.qsize() == 0


def test_who_asks_ahead_is_refused_at_once_for_it_will_ask_again(store):
    other, busy = Task(store, slow=True), Worker(store)
    put(store, 1)
    busy.ask_ahead()
    store.shutdown()
    assert busy.refusals == 1
    busy.ask()
    other.cancel()
    assert busy.take() == [1]


def test_of_those_who_wait_for_each_other_s_leases_the_first_leaves(store):
    first, second, third = (Worker(store, manual=True) for _ in range(3))
    task = Task(store)
    put(store, 0)
    put(store, 1, 2)
    for worker in (first, second):
        worker.ask()
        worker.take()
    store.shutdown()
    for worker in (third, second, first):
        worker.ask()
    assert [w.refusals for w in (first, second, third)] == [0, 1, 0]
    second.done(2)
    assert [w.refusals for w in (first, second, third)] == [1, 1, 0]
    first.die()
    assert third.take() == [1]
    assert task.got == [0]


def test_a_queue_is_over_when_it_is_shut_and_empty_and_all_is_done(store):
    worker, task = Worker(store), Task(store, slow=True)
    put(store, 1, 2)
    worker.ask()
    worker.take()
    assert not store.is_over
    store.shutdown()
    task.cancel()
    assert not store.is_over
    assert get(store) == 1
    assert not store.is_over
    worker.done(2)
    assert store.is_over


def test_a_queue_is_not_over_while_an_item_is_on_lease(store):
    worker = Worker(store, manual=True)
    put(store, 1)
    worker.ask()
    worker.take()
    store.shutdown()
    store.task_done()
    assert not store.is_over
    worker.die()
    assert not store.is_over
    assert get(store) == 1
    assert store.is_over
