"""Values and arrays in shared memory, with a lock to await."""

import ctypes
from multiprocessing import sharedctypes

import anyio
import lock_peers as peers
import pytest
from anyio.lowlevel import checkpoint

import aioipc

pytestmark = pytest.mark.usefixtures("quick_threads")


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]


@pytest.mark.parametrize("kind", ["new", aioipc.Lock, aioipc.RLock])
async def test_read_modify_write_under_the_lock_loses_nothing(kind, context) -> None:
    if kind is aioipc.Lock:  # the plain value would acquire it twice
        lock, target = kind(context=context), peers.count_up
        value = aioipc.Value("i", 0, lock=lock, context=context)
        args = lock, value.get_obj(), 100
    else:
        lock = True if kind == "new" else kind(context=context)
        value = aioipc.Value("i", 0, lock=lock, context=context)
        target, args = peers.add, (value, 100)
    process = aioipc.Process(target=target, args=args, context=context)
    async with process:
        for _ in range(100):
            async with value:
                count = value.value
                await checkpoint()
                value.value = count + 1
    assert value.value == 200


async def test_an_array_is_shared(context) -> None:
    array = aioipc.Array("i", 10, context=context)
    process = aioipc.Process(target=peers.fill, args=(array,), context=context)
    async with process:
        pass
    assert list(array) == [n * n for n in range(10)]
    assert len(array) == 10
    assert (array[3], array[-1], array[2:4]) == (9, 81, [4, 9])
    array[0] = 7
    array[1:3] = [8, 9]
    assert array.sync[:4] == [7, 8, 9, 9]
    with pytest.raises(IndexError):
        array[10]
    with pytest.raises(TypeError):
        array[0] = "x"


async def test_characters(fork) -> None:
    array = aioipc.Array("c", b"hello", context=fork)
    assert (array.value, array.raw, array[1:3]) == (b"hello", b"hello", b"el")
    array.value = b"hey"
    assert (array.value, array.raw) == (b"hey", b"hey\0o")
    array.raw = b"12345"
    assert array.sync.value == b"12345"


async def test_a_structure_and_a_value_by_its_type(fork) -> None:
    value = aioipc.Value(ctypes.c_double, 1.5, context=fork)
    assert value.value == value.sync.value == 1.5
    point = aioipc.Value(Point, 1, 2.5, context=fork)
    async with point:
        point.get_obj().x += 1
    assert (point.sync.x, point.sync.y) == (2, 2.5)


async def test_what_sharedctypes_makes(fork) -> None:
    lock = fork.Lock()
    points = aioipc.wrap(
        sharedctypes.synchronized(
            sharedctypes.RawArray(Point, [(1, 2.5), (3, 4)]), lock
        )
    )
    async with points:
        assert [(point.x, point.y) for point in points] == [(1, 2.5), (3, 4)]
        points[1].y += 1
        assert not lock.acquire(False)
    assert points.sync.get_obj()[1].y == 5
    text = sharedctypes.synchronized(sharedctypes.RawArray("c", b"hello"))
    copied = sharedctypes.copy(text.get_obj())
    assert aioipc.wrap(text).value == copied.value == b"hello"
    assert aioipc.Array("d", 3, context=fork)[:] == [0, 0, 0]


async def test_the_lock_is_the_one_that_was_given(fork) -> None:
    lock = aioipc.Lock(context=fork)
    value = aioipc.Value("i", lock=lock, context=fork)
    array = aioipc.Array("i", 3, lock=lock, context=fork)
    assert value.get_lock() is array.get_lock() is lock
    assert value.sync.get_lock() is lock.sync
    async with value.get_lock():
        assert not await array.acquire(False)
        assert not await array.acquire(timeout=0.01)
        assert value.statistics().count == 1
    plain = fork.Lock()
    assert aioipc.Value("i", lock=plain, context=fork).get_lock().sync is plain
    assert type(aioipc.Value("i", context=fork).get_lock()) is aioipc.AsyncRLock


async def test_without_a_lock_it_is_the_plain_memory(fork) -> None:
    value = aioipc.Value("i", 3, lock=False, context=fork)
    array = aioipc.Array("i", [1, 2], lock=False, context=fork)
    assert type(value) is ctypes.c_int
    assert isinstance(array, ctypes.Array)
    assert (value.value, array[:]) == (3, [1, 2])


async def test_wrap_hand_over_and_detach(context) -> None:
    plain = [
        context.Value("i", 1),
        context.Value(Point, 1, 2),
        context.Array("i", 2),
        context.Array("c", 2),
    ]
    wrapped = [aioipc.wrap(each) for each in plain]
    kinds = [aioipc.AsyncValue] * 2 + [aioipc.AsyncArray] * 2
    assert [type(each) for each in wrapped] == kinds
    mine, theirs = aioipc.Pipe(context=context)
    process = aioipc.Process(
        target=peers.tell_kinds, args=(theirs, *wrapped[2:]), context=context
    )
    async with mine, process:
        assert await mine.recv() == [
            "multiprocessing.sharedctypes.SynchronizedArray",
            "multiprocessing.sharedctypes.SynchronizedString",
        ]
    for each, its_plain in zip(wrapped, plain, strict=True):
        async with each:
            with pytest.raises(aioipc.BusyResourceError, match="in use"):
                each.detach()
        assert each.detach() is its_plain
        assert repr(each) == f"<{type(each).__name__} detached>"
        with pytest.raises(aioipc.ClosedResourceError):
            await each.acquire()
        assert isinstance(its_plain, sharedctypes.SynchronizedBase)


async def test_repr_and_wrong_kinds(fork) -> None:
    value = aioipc.Value("i", 3, context=fork)
    assert repr(value) == ("<AsyncValue c_int(3) <AsyncRLock unlocked waiting=0>>")
    with pytest.raises(TypeError, match="AsyncValue wraps"):
        aioipc.AsyncValue(fork.Array("i", 2))
    with pytest.raises(TypeError, match="AsyncArray wraps"):
        aioipc.AsyncArray(fork.Value("i", 2))


async def test_the_lock_of_a_value_is_waited_for(fork) -> None:
    value = aioipc.Value("i", context=fork)
    async with anyio.create_task_group() as group, value:
        group.start_soon(value.acquire)
        await anyio.wait_all_tasks_blocked()
        assert value.statistics().tasks_waiting == 1
