"""What a manager holds for others: the documented behaviours, awaited."""

import array
import operator

import anyio
import bridge_peers as peers
import pytest
from test_manager import in_a_thread

import aioipc


@pytest.fixture
def manager(plain_manager):
    manager = aioipc.wrap(plain_manager)
    yield manager
    assert manager.detach() is plain_manager


async def test_a_dict(manager) -> None:
    shared = await manager.dict({"a": 1}, b=2)
    assert type(shared) is aioipc.AsyncDictProxy
    assert await shared["a"] == 1
    assert await shared.get("a") == 1
    assert [await shared.get("c"), await shared.get("c", 3)] == [None, 3]
    with pytest.raises(KeyError, match="c"):
        await shared["c"]
    await shared.set("c", 3)
    assert await shared.contains("c")
    await shared.delete("c")
    assert not await shared.contains("c")
    assert await shared.len() == 2
    assert [key async for key in shared] == await shared.keys() == ["a", "b"]
    assert await shared.values() == [1, 2]
    assert await shared.items() == [("a", 1), ("b", 2)]
    assert await shared.setdefault("a", 5) == 1
    assert [await shared.setdefault("d"), await shared.pop("d")] == [None, None]
    assert [await shared.pop("b"), await shared.pop("b", 0)] == [2, 0]
    with pytest.raises(KeyError):
        await shared.pop("b")
    await shared.update([("x", 1)], y=2)
    await shared.update({"z": 3})
    assert await shared.copy() == {"a": 1, "x": 1, "y": 2, "z": 3}
    assert await shared.popitem() == ("z", 3)
    await shared.clear()
    with pytest.raises(KeyError):
        await shared.popitem()


async def test_a_list(manager) -> None:
    shared = await manager.list([i * i for i in range(5)])
    assert type(shared) is aioipc.AsyncListProxy
    assert await shared.as_str() == "[0, 1, 4, 9, 16]"
    assert repr(shared).startswith("<AsyncListProxy <ListProxy object, typeid 'list'")
    assert await shared[4] == 16
    assert await shared[2:5] == [4, 9, 16]
    with pytest.raises(IndexError):
        await shared[5]
    await shared.append(3)
    await shared.extend([2, 1])
    await shared.insert(0, -1)
    assert await shared.getvalue() == [-1, 0, 1, 4, 9, 16, 3, 2, 1]
    assert [await shared.pop(), await shared.pop(0)] == [1, -1]
    await shared.remove(16)
    with pytest.raises(ValueError, match="not in list"):
        await shared.remove(16)
    assert [await shared.index(4), await shared.index(4, 1, 3)] == [2, 2]
    assert [await shared.count(4), await shared.contains(5)] == [1, False]
    await shared.sort(key=operator.neg)
    assert await shared.copy() == [9, 4, 3, 2, 1, 0]
    await shared.sort(reverse=False)
    await shared.reverse()
    await shared.set(0, 90)
    await shared.set(slice(1, 3), [40])
    await shared.delete(-1)
    await shared.delete(slice(2, 3))
    assert [item async for item in shared] == [90, 40, 1]
    await shared.clear()
    assert await shared.len() == 0
    assert await (await manager.list()).copy() == []


async def test_equal_contents_do_not_make_equal_proxies(manager) -> None:
    first, second = await manager.list([1]), await manager.list([1])
    assert first != second
    assert await first.copy() == await second.copy()


async def test_an_array(manager) -> None:
    shared = await manager.Array("i", range(5))
    assert await shared[1] == 1
    assert await shared[1:3] == array.array("i", [1, 2])
    await shared.set(0, 7)
    await shared.set(slice(1, 3), array.array("i", [8, 9]))
    assert [n async for n in shared] == [7, 8, 9, 3, 4]
    assert await shared.len() == 5
    with pytest.raises(TypeError):
        await shared.set(0, "seven")


async def test_a_value(manager) -> None:
    shared = await manager.Value("i", 1)
    await shared.set(await shared.get() + 1)
    assert await shared.get() == 2
    assert await shared.as_str() == "Value('i', 2)"


async def test_a_namespace(manager) -> None:
    shared = await manager.Namespace(x=10)
    await shared.set("y", "hello")
    assert [await shared.get("x"), await shared.get("y")] == [10, "hello"]
    for access in (shared.get, shared.delete):
        with pytest.raises(AttributeError, match="_z"):
            await access("_z")
    with pytest.raises(AttributeError, match="_z"):
        await shared.set("_z", 12.3)
    assert await shared.as_str() == "Namespace(x=10, y='hello')"
    await shared.delete("x")
    with pytest.raises(AttributeError, match="x"):
        await shared.get("x")


async def test_proxies_in_proxies(manager) -> None:
    outer, inner = await manager.list(), await manager.list()
    await outer.append(inner)
    await inner.append("hello")
    same = await outer[0]
    assert type(same) is aioipc.AsyncListProxy
    assert await same.copy() == ["hello"]
    (same,) = await outer.copy()
    assert await same[0] == "hello"
    table = await manager.dict(row=inner, number=1)
    copy = await table.copy()
    assert copy["number"] == 1
    assert await copy["row"][0] == "hello"
    ((key, same), _) = await table.items()
    assert [key, await same.len()] == ["row", 1]


async def test_a_copy_of_an_item_is_changed_only_here(manager) -> None:
    shared = await manager.list([{}])
    item = await shared[0]
    item["a"] = 1
    assert await shared[0] == {}
    await shared.set(0, item)
    assert await shared[0] == {"a": 1}


async def test_they_are_shared_with_workers(manager, context) -> None:
    shared, items = await manager.dict(), await manager.list(range(3))
    value, space = await manager.Value("i", 1), await manager.Namespace()
    numbers, queue = await manager.Array("i", [1, 2]), await manager.Queue()
    process = aioipc.Process(
        target=peers.use_proxies,
        args=(shared, [items, value], {"space": space}, numbers, queue),
        context=context,
    )
    async with process:
        assert await queue.get() == "done"
        assert await process.join() == 0
    assert await shared.copy() == {1: "1", "2": 2}
    assert await items.copy() == [2, 1, 0]
    assert await value.get() == 2
    assert await space.get("name") == "worker"
    assert await numbers[0] == 10


@pytest.mark.parametrize(
    ("name", "args", "kind"),
    [
        ("dict", (), "AsyncDictProxy"),
        ("list", (), "AsyncListProxy"),
        ("Value", ("i", 1), "AsyncValueProxy"),
        ("Array", ("i", [1]), "AsyncArrayProxy"),
        ("Namespace", (), "AsyncNamespaceProxy"),
        ("Queue", (), "AsyncQueueProxy"),
        ("JoinableQueue", (), "AsyncQueueProxy"),
        ("Lock", (), "AsyncLockProxy"),
        ("RLock", (), "AsyncRLockProxy"),
        ("Semaphore", (), "AsyncSemaphoreProxy"),
        ("BoundedSemaphore", (), "AsyncSemaphoreProxy"),
        ("Event", (), "AsyncEventProxy"),
        ("Condition", (), "AsyncConditionProxy"),
        ("Barrier", (1,), "AsyncBarrierProxy"),
    ],
)
async def test_wrap_knows_every_kind(plain_manager, name, args, kind) -> None:
    plain = await in_a_thread(getattr(plain_manager, name), *args)
    wrapped = aioipc.wrap(plain)
    assert type(wrapped) is getattr(aioipc, kind)
    assert wrapped.sync is plain
    assert not wrapped.closed
    assert wrapped.detach() is plain
    await in_a_thread([plain].clear)


async def test_calls_happen_in_order_whatever_is_cancelled(manager) -> None:
    shared = await manager.list()
    for n in range(200):
        with anyio.move_on_after(0.0001):
            await shared.append(n)
    items = await shared.copy()
    assert items == sorted(set(items))


async def test_the_referents_own_errors_come_as_they_are(manager) -> None:
    shared = await manager.list([1, "a"])
    with pytest.raises(TypeError, match="not supported"):
        await shared.sort()
    with pytest.raises(AttributeError, match=r"Can't pickle|Can't get local"):
        await shared.append(lambda: None)
    assert await shared.len() == 2
