"""Arenas: memory that one process writes to and others look at."""

import array
import copyreg
import ctypes
import errno
import gc
import io
import os
import pickle
import random
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aioipc.memory import copying as copying_module
from aioipc.memory import looks as looks_module
from aioipc.memory import mapping as mapping_module
from aioipc.memory.arena import Arena
from aioipc.memory.bulky import BULKY, leaving_out, wrapper
from aioipc.memory.copying import copy, join
from aioipc.memory.file import File, open_memory
from aioipc.memory.parcels import Packer, is_slow_to_unpack, starts_of, unpack
from aioipc.memory.slots import SEGMENT, SMALLEST, Slots, segment_of, size_of_slot
from aioipc.memory.views import Views
from aioipc.wire.pickles import Pickler, TooLarge, dumps_large, loads_large

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
    starts = [slots.take(100 * KB) for _ in range(3)]
    for start in starts:
        slots.free(start)
    assert [slots.take(70 * KB) for _ in range(3)] == starts[::-1]


def test_free_slots_give_their_memory_back_for_others() -> None:
    slots = Slots(MB)
    first = slots.take(600 * KB)
    assert slots.take(600 * KB) is None
    slots.free(first)
    second = slots.take(300 * KB)
    assert not slots.to_give_back
    slots.take(500 * KB)
    assert slots.to_give_back == [(first, 600 * KB)]
    assert slots.held <= MB
    assert second != first


def test_a_slot_is_not_taken_while_it_gives_its_memory_back() -> None:
    slots = Slots(MB)
    first = slots.take(600 * KB)
    slots.free(first)
    slots.give_back_all()
    assert slots.held == 0
    second = slots.take(600 * KB)
    assert second != first
    slots.gave_back(first)
    slots.limit = 2 * MB
    assert slots.take(600 * KB) == first


def test_memory_that_a_slot_has_and_does_not_use_counts() -> None:
    slots = Slots(MB)
    first = slots.take(1000 * KB)
    slots.free(first)
    assert slots.take(600 * KB) == first
    assert slots.take(300 * KB) is None
    assert slots.held == 1000 * KB
    assert not slots.to_give_back


class SlotsMachine(RuleBasedStateMachine):
    """Whatever is taken, freed and given back in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = Slots(200 * MB)
        self.used: dict[int, int] = {}

    @rule(size=st.one_of(st.integers(1, MB), st.integers(1, 150 * MB)))
    def take(self, size) -> None:
        start = self.slots.take(size)
        if start is None:
            most = sum(size_of_slot(size) for size in self.used.values())
            assert most + size > 200 * MB
            return
        assert start not in self.used
        assert start % PAGE == 0
        self.used[start] = size

    @precondition(lambda self: self.used)
    @rule(data=st.data())
    def free(self, data) -> None:
        start = data.draw(st.sampled_from(sorted(self.used)))
        del self.used[start]
        self.slots.free(start)

    @precondition(lambda self: self.slots.to_give_back)
    @rule()
    def give_back(self) -> None:
        start, size = self.slots.to_give_back.pop()
        assert start not in self.used
        assert 0 < size <= size_of_slot(size)
        self.slots.gave_back(start)

    @rule()
    def give_back_all(self) -> None:
        self.slots.give_back_all()
        slack = sum(size_of_slot(size) for size in self.used.values())
        assert self.slots.held <= slack

    @invariant()
    def nothing_overlaps_and_all_lies_in_its_segment(self) -> None:
        end = 0
        slots = dict(self.slots.to_give_back)
        for start, size in sorted((self.used | slots).items()):
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
TestSlots.settings = settings(max_examples=50, stateful_step_count=40)


# Copying


def test_a_copy_takes_what_has_a_buffer() -> None:
    target = bytearray(10)
    address = ctypes.addressof((ctypes.c_ubyte * 10).from_buffer(target))
    copy(b"bytes", address, 10)
    copy(memoryview(b"x-view")[2:], address + 6, 4)
    assert target == b"bytes\0view"
    with pytest.raises(BufferError, match="too little room"):
        copy(bytes(11), address, 10)
    with pytest.raises(BufferError):
        copy(memoryview(b"every other")[::2], address, 10)
    with pytest.raises(TypeError):
        copy("text", address, 10)
    source = bytearray(5)
    copy(source, address, 10)
    source.append(1)  # nothing holds it any more


def test_pieces_are_joined_by_copies_that_let_others_run(monkeypatch) -> None:
    copied = []

    def note(*args) -> None:
        copied.append(args[0])
        copy(*args)

    monkeypatch.setattr(copying_module, "copy", note)
    array = np.asfortranarray(np.arange(6).reshape(2, 3))
    pieces = [b"ab", bytearray(b"cd"), pickle.PickleBuffer(array), b""]
    assert join(pieces) == b"abcd" + array.tobytes("F")
    assert len(copied) == len(pieces)
    assert join([b"ab", b"cd"]) == b"abcd"
    assert join([bytearray()]) == b""


# Arenas and views


@pytest.fixture
def fd():
    fd = open_memory("test")
    yield fd
    os.close(fd)


@pytest.fixture
def arena(fd):
    arena = Arena(File(os.dup(fd)), 300 * MB)
    yield arena
    arena.close()


@pytest.fixture
def views(fd):
    views = Views(File(os.dup(fd)))
    yield views
    close(views)


def close(views) -> None:
    if views.close():
        views.finish()


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


def test_an_arena_can_be_closed_by_what_the_collector_runs_meanwhile(arena) -> None:
    with arena._lock:
        arena.close()
    arena.close()
    assert arena.take(1) is None


def test_an_arena_can_be_closed_while_a_thread_takes_of_it(arena, monkeypatch) -> None:
    def grow(file, end, once=File.grow):
        arena.close()
        once(file, end)

    monkeypatch.setattr(File, "grow", grow)
    arena.let_go([arena.take(MB)])  # it was in time
    assert arena.take(MB) is None
    assert arena._file.is_closed


def test_a_fork_lets_go_of_an_arena_that_another_thread_works_at(fd) -> None:
    files = File(os.dup(fd)), File(os.dup(fd))
    arena, views = Arena(files[0], MB), Views(files[1])
    with arena._lock, arena._file._lock:
        for file in files:
            file.forget()
    assert arena.take(1) is None
    with pytest.raises(BufferError, match="closed"):
        views.look(0, 1, readonly=True)


def test_memory_is_kept_warm_within_the_limit_and_given_back_on_request(
    arena, views
) -> None:
    for size in (100 * MB, 150 * MB, 200 * MB, MB):
        start = put(arena, bytes(b"x" * size))
        assert arena.memory <= 300 * MB
        arena.trim()
        assert size <= arena.memory <= size + PAGE
        assert views.look(start, size, readonly=True)[-1] == ord("x")
        arena.let_go([start])
    assert arena.memory > 0
    arena.trim()
    assert arena.memory == 0
    start = put(arena, b"again")
    assert views.look(start, 5, readonly=True) == b"again"


def test_a_lower_limit_holds_from_the_next_buffer_on(arena) -> None:
    arena.let_go([put(arena, b"x" * 100 * MB)])
    arena.limit = 50 * MB
    assert arena.take(60 * MB) is None
    put(arena, b"x" * MB)
    assert arena.memory <= 50 * MB


def test_what_was_taken_and_not_written_makes_room_all_the_same(arena) -> None:
    arena.let_go([put(arena, b"x" * 100 * MB)])
    arena.let_go([arena.take(250 * MB)])  # which needs the other's memory
    put(arena, b"x")
    assert arena.memory <= MB


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


def test_where_there_is_no_memfd_an_arena_takes_nothing(monkeypatch) -> None:
    monkeypatch.setattr(os, "memfd_create", refuse(OSError(38, "not implemented")))
    arena = Arena(File(open_memory("test")), MB)
    assert arena.take(1) is None
    assert arena.statistics.buffers == arena.memory == 0
    arena.close()


def refuse(error: BaseException):
    def refuse(*_args, **_kwargs):
        raise error

    return refuse


def test_no_one_can_cut_off_what_others_look_at(arena, views, fd) -> None:
    start = put(arena, b"x" * MB)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    assert views.look(start, MB, readonly=True)[-1] == ord("x")


@pytest.mark.parametrize(("start", "size"), [(1 << 40, 1), (0, 1 << 40), (123, 9)])
def test_what_is_not_there_can_not_be_looked_at(start, size, arena, views) -> None:
    if start + size > MB:
        for look in (views.read, views.read_array):
            with pytest.raises(BufferError, match="no such buffer"):
                look(start, size)
        with pytest.raises(BufferError, match="no such buffer"):
            views.look(start, size, readonly=True)
    put(arena, b"x" * MB)
    if start % PAGE:  # can't be mapped, but read
        assert views.look(start, size, readonly=True) == b"x" * size


def test_what_can_not_be_mapped_is_copied(arena, views, monkeypatch) -> None:
    monkeypatch.setattr(mapping_module, "_mmap", lambda *_: mapping_module._FAILED)
    monkeypatch.setattr(File, "segment", lambda *_: None)
    start = arena.take(MB)
    os.pwrite(arena._file.fd, b"x" * MB, start)
    view = views.look(start, MB, readonly=True)
    assert view == b"x" * MB
    assert view.readonly
    assert list(views.released) == [start]


class Looker:
    """Garbage, in a cycle, whose finalizer looks at a buffer once more."""

    def __init__(self, view, seen) -> None:
        self.me, self.view, self.seen = self, view, seen

    def __del__(self) -> None:
        self.seen.append(bytes(self.view[:2]))
        self.seen.append(self.view)


def test_a_finalizer_may_look_and_even_keep_a_buffer(arena, views) -> None:
    start = put(arena, b"x" * MB)
    seen = []
    Looker(views.look(start, MB, readonly=True)[1:9], seen)
    gc.collect()
    assert not views.released
    assert seen.pop() == b"x" * 8
    assert list(views.released) == [start]
    assert seen == [b"xx"]


def address_of(view) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


def is_mapped() -> bool:
    """Whether a part of a file is, and privately."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return any("memfd:test" in line and " rw-p " in line for line in lines)


def test_what_was_only_read_stays_mapped_for_the_next_look(arena, views) -> None:
    where = set()
    for n in range(1, 6):
        start = put(arena, bytes([n]) * MB)
        view = views.look(start, MB, readonly=False)
        assert view == bytes([n]) * MB
        where.add(address_of(view))
        del view
        arena.let_go([views.released.popleft()])
    assert len(where) == 1
    arena.trim()  # from under it
    start = put(arena, b"x" * MB)
    view = views.look(start, MB, readonly=False)
    assert view == b"x" * MB
    assert {address_of(view)} == where


@pytest.mark.parametrize("kernel", ["new", "old"])
def test_what_was_written_to_is_not_seen_by_the_next_look(
    kernel, arena, views, monkeypatch
) -> None:
    if kernel == "old":
        monkeypatch.setattr(mapping_module.os, "pread", refuse(OSError(1, "no entry")))
    for n in range(1, 6):
        start = put(arena, bytes([n]) * MB)
        view = views.look(start, MB, readonly=False)
        assert view == bytes([n]) * MB
        view[n * PAGE] = 99
        del view
        arena.let_go([views.released.popleft()])


def test_a_smaller_slot_where_a_larger_one_was_is_mapped_anew(arena, views) -> None:
    for size in (100 * MB, 3 * MB, 100 * MB):
        start = put(arena, b"x" * size)
        assert views.look(start, size, readonly=True)[-1] == ord("x")
        arena.let_go([views.released.popleft()])
        arena.trim()


def test_what_is_kept_mapped_goes_with_its_file_and_is_in_no_fork(arena, views) -> None:
    start = put(arena, b"x" * MB)
    views.look(start, MB, readonly=True)
    assert is_mapped()
    child = os.fork()
    if not child:
        os._exit(is_mapped())
    assert os.waitpid(child, 0)[1] == 0
    arena.close()
    close(views)
    assert not is_mapped()


@pytest.mark.parametrize("kernel", ["new", "old"])
def test_a_fork_copies_what_is_in_view(kernel, arena, views, monkeypatch) -> None:
    if kernel == "old":
        monkeypatch.setattr(mapping_module, "_MADV_POPULATE_WRITE", 9999)
    start = put(arena, b"\1" * MB)
    before = views.look(start, MB, readonly=False)
    before[-1] = 9
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.read(reader, 1)
        os._exit(before[0] + before[MB // 2] + before[-1])
    assert list(views.released) == [start]
    arena.let_go([start])
    assert put(arena, b"\2" * MB) == start
    os.write(writer, b"!")
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 1 + 1 + 9
    assert before[:-1] == b"\1" * (MB - 1)
    assert views.look(start, MB, readonly=False) == b"\2" * MB
    before.release()
    assert list(views.released) == [start, start]
    for fd in (reader, writer):
        os.close(fd)


def copy_all() -> None:
    """Do what is done before a fork, and after it."""
    looks_module._copy_all()
    looks_module._no_fork.release()


def test_what_can_not_be_copied_at_a_fork_is_never_released(
    arena, views, monkeypatch
) -> None:
    start, other = put(arena, b"x" * MB), put(arena, b"y" * MB)
    view = views.look(start, MB, readonly=False)
    second = views.look(other, MB, readonly=False)
    copies = iter([OSError(errno.ENOMEM, "no memory")])

    def copy(mapping, size, once=looks_module.Mapping.copy):
        for error in copies:
            raise error
        once(mapping, size)

    monkeypatch.setattr(looks_module.Mapping, "copy", copy)
    copy_all()
    assert list(views.released) == [other]
    copy_all()  # the first child still looks at what was not copied
    close(views)
    assert view == b"x" * MB
    assert second == b"y" * MB
    del view
    assert list(views.released) == [other]


def test_there_is_a_limit_to_what_is_in_view(arena, views, monkeypatch) -> None:
    monkeypatch.setattr(looks_module, "_MOST", len(looks_module._in_view) + 1)
    starts = [put(arena, b"x" * MB) for _ in range(2)]
    assert not views.is_slow
    first = views.look(starts[0], MB, readonly=True)
    assert views.is_slow
    second = views.look(starts[1], MB, readonly=True)
    assert list(views.released) == starts[1:]  # because it is a copy
    assert first == second == b"x" * MB


def test_threads_look_and_drop_while_others_fork(arena, views) -> None:
    over = threading.Event()
    wrong = []

    def look() -> None:
        n = 0
        while not over.is_set():
            n += 1
            data = bytes([n % 251]) * SMALLEST
            start = put(arena, data)
            view = views.look(start, SMALLEST, readonly=True)
            if view != data:
                wrong.append(n)
            del view
            while views.released:
                arena.let_go([views.released.popleft()])

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(300):
        copy_all()
    over.set()
    for thread in threads:
        thread.join()
    arena.let_go(views.released)
    assert not wrong
    assert arena.statistics.buffers == 0
    assert not views.is_slow


def test_what_is_refused_once_does_no_harm(arena, monkeypatch) -> None:
    start = put(arena, b"x" * 10 * MB)
    with monkeypatch.context() as patch:
        patch.setattr(File, "grow", refuse(OSError(errno.EFBIG, "too large")))
        assert arena.take(150 * MB) is None
        assert arena.take(100 * MB) is None
    assert arena.statistics.held == arena.memory == 10 * MB
    arena.let_go([start])
    assert put(arena, b"y" * 10 * MB) == start
    with monkeypatch.context() as patch:
        patch.setattr(File, "give_back", refuse(OSError(errno.EINVAL, "locked")))
        arena.let_go([start])
        arena.trim()
        assert arena.statistics.held == arena.memory == 10 * MB
    arena.trim()
    assert arena.statistics.held == arena.memory == 0
    assert put(arena, b"z" * 10 * MB) == start


def test_where_a_file_can_not_be_sealed_there_is_none(monkeypatch) -> None:
    monkeypatch.setattr("fcntl.fcntl", refuse(OSError(errno.EINVAL, "no seals")))
    fd = open_memory("test")
    assert Path(f"/proc/self/fd/{fd}").readlink() == Path(os.devnull)
    os.close(fd)


def test_what_is_in_view_outlives_the_other_side_and_all_else_goes(
    arena, views, fd
) -> None:
    sizes = [MB, 10 * MB, 80 * MB, 3 * MB]
    starts = [put(arena, b"x" * size) for size in sizes]
    first, second, third = (
        views.look(start, size, readonly=False)
        for start, size in list(zip(starts, sizes, strict=True))[1:]
    )
    arena.close()
    close(views)
    assert views.memory == os.fstat(fd).st_blocks * 512 == 93 * MB
    assert all(view == b"x" * len(view) for view in (first, second, third))
    second.release()
    assert views.memory == os.fstat(fd).st_blocks * 512 == 13 * MB
    third[:] = b"y" * len(third)
    third.release()
    assert views._file.is_closed  # the last one's memory goes with its mapping
    first.release()
    assert views.memory == 0
    assert not views.released


def test_little_that_is_in_view_keeps_no_file_open(arena, views) -> None:
    starts = [put(arena, b"x" * size) for size in (MB, MB // 2, MB)]
    first, second = (views.look(start, 9, readonly=False) for start in starts[:2])
    close(views)
    assert views._file.is_closed
    assert views.memory == 0
    first[:] = b"y" * 9
    assert second == b"x" * 9


def test_views_can_be_kept_open(views, arena) -> None:
    start = put(arena, b"x" * MB)
    views.keep_open()
    close(views)
    assert views.read(start, MB) == b"x" * MB


# Parcels


def dumps(value, packer) -> bytes:
    return b"".join(dumps_large(value, leaving_out(packer.leave_out)))


def send(value, arena, views):
    """Send a value by way of the arena; return what arrives, and the message."""
    packer = Packer(arena)
    pickled = dumps(wrapper()(value), packer)
    if packer.is_empty:
        return pickle.loads(pickled), pickled
    parcel = packer.parcel()
    parcel.write()
    message = parcel.table + pickled
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
        assert is_slow_to_unpack(message)
    del got
    gc.collect()
    assert len(views.released) == len(set(views.released))


ARRAYS = {
    "every other": np.arange(100_000)[::2],
    "transposed": np.arange(80_000).reshape(20, 40, 100).transpose(1, 0, 2),
    "times": np.arange(50_000).astype("M8[s]"),
    "every other time": np.arange(100_000).astype(">m8[ms]")[::2],
    "times in two dimensions": np.arange(50_000).astype("M8[s]").reshape(50, 1000).T,
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_that_numpy_would_copy_are_left_out(name, arena, views) -> None:
    (got, again), message = send([ARRAYS[name]] * 2, arena, views)
    assert got is again
    assert got.dtype == ARRAYS[name].dtype
    assert np.array_equal(got, ARRAYS[name])
    assert got.flags.writeable
    assert len(message) < 10 * KB


@pytest.mark.parametrize(
    "array",
    [np.arange(10)[::2], np.array([{}] * 20_000)[::2], np.zeros(99_999, "i1,O")[::2]],
    ids=["small", "objects", "structured"],
)
def test_other_arrays_are_left_to_numpy(array, arena, views) -> None:
    got, _ = send(array, arena, views)
    assert np.array_equal(got, array)


def test_a_loop_copies_no_large_array(arena) -> None:
    pickler = Pickler(leaving_out(Packer(arena).leave_out, most=MB))
    with pytest.raises(TooLarge):
        pickler.dumps([np.zeros(MB)[::2]])
    assert pickler.dumps(np.zeros(BULKY // 4)[::2])


def test_numpy_may_be_imported_later(arena, monkeypatch) -> None:
    packer = Packer(arena)
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "numpy")
        pickler = Pickler(leaving_out(packer.leave_out))
        assert pickler.dumps(1)
    monkeypatch.setitem(copyreg.dispatch_table, Looker, None)  # as numpy does
    pickler.dumps(np.zeros(MB)[::2])
    assert not packer.is_empty
    packer.drop()


class Holder:
    """What looks at a buffer of whatever it was given."""

    def __init__(self, buffer) -> None:
        self.buffer, self.view = buffer, memoryview(buffer)

    def __reduce_ex__(self, _protocol):
        return Holder, (pickle.PickleBuffer(self.buffer),)


@pytest.mark.parametrize("is_readonly", [False, True])
@pytest.mark.parametrize(
    "buffer",
    [array.array("d", bytes(8 * BULKY)), bytearray(BULKY), np.zeros(BULKY)],
    ids=lambda buffer: type(buffer).__name__,
)
def test_what_can_be_written_to_can_be_so_on_the_other_side(
    buffer, is_readonly, arena, views
) -> None:
    if is_readonly:
        buffer = memoryview(buffer).toreadonly()
    got, message = send(Holder(buffer), arena, views)
    assert len(message) < KB
    assert got.view.readonly is is_readonly


def test_many_buffers_are_slow_to_unpack(arena, views) -> None:
    arrays = [np.zeros(BULKY // 8) for _ in range(64)]
    assert is_slow_to_unpack(send(arrays, arena, views)[1])
    assert not is_slow_to_unpack(send(arrays[1:], arena, views)[1])
    assert not is_slow_to_unpack(send(b"x" * BULKY, arena, views)[1])


def test_what_is_large_beside_the_buffers_is_read_where_it_is(
    arena, views, monkeypatch
) -> None:
    class Files:
        """Makes files of what it notes."""

        def __init__(self) -> None:
            self.of = []

        def BytesIO(self, data) -> io.BytesIO:  # noqa: N802
            self.of.append(data)
            return io.BytesIO(data)

    value = [np.arange(BULKY), [b"in band" * MB]]
    packer = Packer(arena)
    pickled = dumps(value, packer)
    parcel = packer.parcel()
    parcel.write()
    message = parcel.table + pickled
    files = Files()
    monkeypatch.setattr("aioipc.wire.pickles.io", files)
    assert unpack(message, views, loads_large)[1] == value[1]
    assert len(files.of) == 1
    assert files.of[0] is message  # of a view of it, it would make a copy


def test_what_can_not_be_mapped_is_released(arena, views, monkeypatch) -> None:
    packer = Packer(arena)
    pickled = dumps([array.array("d", bytes(MB)) for _ in range(3)], packer)
    parcel = packer.parcel()
    parcel.write()
    looks = [views.look]

    def look(*args, **kwargs):
        if not looks:
            raise OSError("no memory")
        return looks.pop()(*args, **kwargs)

    monkeypatch.setattr(views, "look", look)
    with pytest.raises(OSError, match="no memory"):
        unpack(parcel.table + pickled, views)
    assert sorted(views.released) == sorted(parcel.starts)


def test_a_full_arena_means_in_band(fd, views) -> None:
    arena = Arena(File(os.dup(fd)), 2 * MB)
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
    with pytest.raises((AttributeError, pickle.PicklingError)):
        dumps([array.array("d", bytes(MB)), lambda: None], packer)
    assert not packer.is_empty
    packer.drop()
    assert packer.is_empty
    assert arena.statistics.buffers == 0
