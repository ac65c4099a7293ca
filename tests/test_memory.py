"""Arenas: memory that one process writes to and others look at."""

import array
import gc
import os
import pickle
import random
from functools import partial

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aioipc.memory import views as views_module
from aioipc.memory.arena import Arena
from aioipc.memory.bulky import BULKY, wrapped
from aioipc.memory.copying import copy
from aioipc.memory.parcels import Packer, packing, size_to_copy, starts_of, unpack
from aioipc.memory.slots import SEGMENT, SMALLEST, Slots, segment_of, size_of_slot
from aioipc.memory.views import Views

KB, MB = 1 << 10, 1 << 20
PAGE = 4096


# Slots


@pytest.mark.parametrize(
    ("size", "slot"),
    [
        (1, SMALLEST),
        (SMALLEST, SMALLEST),
        (SMALLEST + 1, 2 * SMALLEST),
        (100 * MB, 128 * MB),
    ],
)
def test_a_slot_is_a_power_of_two(size, slot) -> None:
    assert size_of_slot(size) == slot


def test_the_slot_that_was_freed_last_is_used_first() -> None:
    slots = Slots(10 * MB)
    starts = [slots.take(100 * KB)[0] for _ in range(3)]
    for start in starts:
        slots.free(start)
    assert [slots.take(70 * KB)[0] for _ in range(3)] == starts[::-1]


def test_free_slots_give_their_memory_back_for_others() -> None:
    slots = Slots(MB)
    first, _ = slots.take(600 * KB)
    assert slots.take(600 * KB) is None
    slots.free(first)
    second, given_back = slots.take(300 * KB)
    assert not given_back
    _, given_back = slots.take(500 * KB)
    assert given_back == [(first, 600 * KB)]
    assert slots.held <= MB
    assert second != first


def test_memory_that_a_slot_has_and_does_not_use_counts() -> None:
    slots = Slots(MB)
    first, _ = slots.take(1000 * KB)
    slots.free(first)
    assert slots.take(600 * KB) == (first, [])
    assert slots.take(300 * KB) is None
    assert slots.held == 1000 * KB


class SlotsMachine(RuleBasedStateMachine):
    """Whatever is taken and freed in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = Slots(200 * MB)
        self.used: dict[int, int] = {}

    @rule(size=st.one_of(st.integers(1, MB), st.integers(1, 150 * MB)))
    def take(self, size) -> None:
        taken = self.slots.take(size)
        if taken is None:
            most = sum(size_of_slot(size) for size in self.used.values())
            assert most + size > 200 * MB
            return
        start, given_back = taken
        assert start not in self.used
        assert start % PAGE == 0
        for slot, _ in given_back:
            assert slot not in self.used
            assert slot != start
        self.used[start] = size

    @precondition(lambda self: self.used)
    @rule(data=st.data())
    def free(self, data) -> None:
        start = data.draw(st.sampled_from(sorted(self.used)))
        del self.used[start]
        self.slots.free(start)

    @invariant()
    def nothing_overlaps_and_all_lies_in_its_segment(self) -> None:
        end = 0
        for start, size in sorted(self.used.items()):
            assert start >= end
            end = start + size
            segment = segment_of(start, size)
            assert segment.start <= start
            assert end <= segment.start + segment.size <= self.slots.end
            assert segment.size >= SEGMENT

    @invariant()
    def the_limit_is_kept(self) -> None:
        slots = self.slots
        assert slots.count == len(self.used)
        assert sum(self.used.values()) <= slots.used <= slots.held <= slots.limit


TestSlots = SlotsMachine.TestCase
TestSlots.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)


# Copying


def test_a_copy_takes_what_has_a_buffer() -> None:
    target = bytearray(10)
    copy(b"bytes", target)
    copy(memoryview(b"x-view")[2:], memoryview(target)[6:])
    assert target == b"bytes\0view"
    with pytest.raises(BufferError, match="too small"):
        copy(bytes(11), target)
    with pytest.raises(BufferError):
        copy(b"x", b"read-only")
    with pytest.raises(BufferError):
        copy(memoryview(b"every other")[::2], target)
    with pytest.raises(TypeError):
        copy("text", target)
    target.append(1)  # nothing holds it any more


# Arenas and views


@pytest.fixture
def fd():
    fd = os.memfd_create("test")
    yield fd
    os.close(fd)


@pytest.fixture
def arena(fd):
    arena = Arena(os.dup(fd), 300 * MB)
    yield arena
    arena.close()


@pytest.fixture
def views(fd):
    views = Views(os.dup(fd))
    yield views
    views.close()


def put(arena, data) -> int:
    start = arena.take(len(data))
    arena.write(start, data, len(data))
    return start


@pytest.mark.parametrize("size", [1, SMALLEST, MB + 1, SEGMENT, 70 * MB])
def test_what_is_written_is_seen(size, arena, views) -> None:
    data = random.Random(size).randbytes(min(size, MB)) * (size // MB or 1)
    start = put(arena, data)
    assert views.look(start, len(data), readonly=True) == data
    assert views.read(put(arena, data), len(data)) == data
    assert views.read_array(put(arena, data), len(data)) == data


def test_a_slot_is_released_with_the_last_view_of_it(arena, views) -> None:
    start = put(arena, b"x" * MB)
    view = views.look(start, MB, readonly=False)
    part, other = view[10:20], memoryview(view).cast("B")
    del view
    del other
    assert not views.released
    assert part == b"x" * 10
    del part
    assert list(views.released) == [start]


def test_what_a_reader_writes_is_its_own_and_gone_with_the_next_buffer(
    arena, views
) -> None:
    start = put(arena, b"x" * MB)
    view = views.look(start, MB, readonly=False)
    view[:] = b"y" * MB
    assert views.read(start, MB) == b"x" * MB
    assert views.look(put(arena, b"z" * MB), MB, readonly=True).readonly
    del view
    arena.let_go([start])
    assert put(arena, b"1" * MB) == start
    assert views.look(start, MB, readonly=False) == b"1" * MB


def test_a_slot_is_free_when_no_owner_is_left(arena) -> None:
    start = put(arena, b"x" * MB)
    arena.keep([start])
    arena.let_go([start])
    assert put(arena, b"y" * MB) != start
    assert arena.statistics.buffers == 2
    arena.let_go([start])
    assert put(arena, b"z" * MB) == start


def test_a_slot_can_be_let_go_by_what_the_collector_runs_meanwhile(arena) -> None:
    start = put(arena, b"x" * MB)
    with arena._lock:
        arena.let_go([start])
    assert put(arena, b"y" * MB) == start


def test_a_fork_lets_go_of_an_arena_that_another_thread_works_at(fd) -> None:
    arena, views = Arena(os.dup(fd), MB), Views(os.dup(fd))
    with arena._lock, views._lock:
        arena.forget()
        views.forget()
    assert arena.take(1) is None
    with pytest.raises(BufferError, match="closed"):
        views.look(0, 1, readonly=True)


def test_memory_is_kept_warm_within_the_limit_and_given_back_on_request(
    arena, views
) -> None:
    for size in (100 * MB, 150 * MB, 200 * MB, MB):
        start = put(arena, bytes(b"x" * size))
        assert arena.memory <= 300 * MB
        arena.trim()  # does nothing while something is in use
        assert views.look(start, size, readonly=True)[-1] == ord("x")
        arena.let_go([start])
    assert arena.memory > 0
    arena.trim()
    assert arena.memory == 0
    start = put(arena, b"again")
    assert views.look(start, 5, readonly=True) == b"again"


def test_a_full_or_closed_arena_takes_nothing(arena) -> None:
    start = arena.take(250 * MB)
    assert arena.take(100 * MB) is None
    assert arena.take(10 * MB) is not None
    arena.close()
    assert arena.take(1) is None
    arena.let_go([start])
    with pytest.raises(BufferError, match="closed"):
        arena.write(start, b"x", 1)
    assert arena.memory == 0


def test_what_is_in_view_at_a_fork_is_never_released(arena, views) -> None:
    start = put(arena, b"x" * MB)
    before = views.look(start, MB, readonly=False)
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    del before
    assert not views.released
    after = views.look(put(arena, b"y" * MB), MB, readonly=False)
    del after
    assert len(views.released) == 1
    assert views_module._all  # where the hook finds them


def test_views_can_be_kept_open(views, arena) -> None:
    start = put(arena, b"x" * MB)
    views.keep_open()
    views.close()
    assert views.read(start, MB) == b"x" * MB


# Parcels


def send(value, arena, views):
    """Send a value by way of the arena; return what arrives, and the message."""
    packer = Packer(arena)
    pieces: list[bytes] = []
    file = type("File", (), {"write": staticmethod(pieces.append)})
    packing(packer)(file).dump(wrapped(value))
    if packer.is_empty:
        message = b"".join(pieces)
        return pickle.loads(message), message
    parcel = packer.parcel()
    parcel.write()
    message = parcel.table + b"".join(pieces)
    assert starts_of(message) == parcel.starts
    value = unpack(message, views)
    parcel.let_go()
    return value, message


@pytest.mark.parametrize(
    "value",
    [
        b"x" * MB,
        bytearray(b"y" * MB),
        array.array("d", range(100_000)),
        [array.array("i", range(BULKY)), array.array("b", b"small")],
        pickle.PickleBuffer(b"z" * MB),
        b"small",
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_arrive_and_their_buffers_are_left_out(value, arena, views) -> None:
    got, message = send(value, arena, views)
    if isinstance(value, pickle.PickleBuffer):
        value = bytes(value)
    assert type(got) is type(value)
    assert got == value
    assert len(message) < 10 * KB
    if type(value) in {bytes, bytearray} and len(value) >= BULKY:
        assert size_to_copy(message) == len(value)
    del got
    gc.collect()
    assert len(views.released) == len(set(views.released))


def test_what_can_not_be_mapped_is_released(arena, views, monkeypatch) -> None:
    packer = Packer(arena)
    pieces: list[bytes] = []
    file = type("File", (), {"write": staticmethod(pieces.append)})
    packing(packer)(file).dump([array.array("d", bytes(MB)) for _ in range(3)])
    parcel = packer.parcel()
    parcel.write()
    looks = [views.look]

    def look(*args, **kwargs):
        if not looks:
            raise OSError("no memory")
        return looks.pop()(*args, **kwargs)

    monkeypatch.setattr(views, "look", look)
    with pytest.raises(OSError, match="no memory"):
        unpack(parcel.table + b"".join(pieces), views)
    assert sorted(views.released) == sorted(parcel.starts)


def test_a_full_arena_means_in_band(fd, views) -> None:
    arena = Arena(os.dup(fd), 2 * MB)
    values = [b"x" * MB, bytearray(b"y" * MB), array.array("d", bytes(4 * MB))]
    start = arena.take(2 * MB)
    for value in values:
        got, message = send(value, arena, views)
        assert got == value
        assert len(message) > MB
    arena.let_go([start])
    arena.close()


def test_what_fails_to_be_pickled_leaves_no_slot_taken(arena) -> None:
    packer = Packer(arena)
    dump = partial(packing(packer), type("File", (), {"write": staticmethod(len)}))
    with pytest.raises((AttributeError, pickle.PicklingError)):
        dump().dump([array.array("d", bytes(MB)), lambda: None])
    assert not packer.is_empty
    packer.drop()
    assert packer.is_empty
    assert arena.statistics.buffers == 0
