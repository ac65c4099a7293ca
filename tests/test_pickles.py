"""Pickles that plain `pickle.loads` loads, whatever happened to the pickler before."""

import contextlib
import copyreg
import functools
import pickle
import threading
import time
from multiprocessing.reduction import ForkingPickler

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aioipc.wire.parts import LARGE
from aioipc.wire.pickles import (
    Pickler,
    TooLarge,
    dumps_large,
    dumps_small,
    loads,
    loads_large,
    new_pickler,
)

MB = 1 << 20
LARGE_GRAPH = list(range(LARGE // 2))  # no part of it is large
UNPICKLABLE = lambda: None  # noqa: E731

objects = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)


class Handle:
    """A class that pickle can't find: only a reducer helps."""


def whole(pickled: bytes | list[bytes]) -> bytes:
    return pickled if isinstance(pickled, bytes) else b"".join(pickled)


def reduce_handle(handle: Handle) -> tuple[object, ...]:
    return str, ("reduced",)


# One pickler, many objects


ONE_FOR_ALL = Pickler()


@given(objects)
@settings(max_examples=200)
def test_plain_pickle_loads_what_one_pickler_makes_of_any_object(obj) -> None:
    pickled = ONE_FOR_ALL.dumps(obj)
    assert isinstance(pickled, bytes)
    assert pickle.loads(pickled) == loads(pickled) == obj
    assert pickled == pickle.dumps(obj)


def test_the_memo_is_cleared_so_each_pickle_stands_alone() -> None:
    pickler = Pickler()
    obj = [shared := ["shared"], shared]
    first, second = pickler.dumps(obj), pickler.dumps(obj)
    assert first == second == pickle.dumps(obj)
    copy = pickle.loads(whole(second))
    assert copy == obj
    assert copy[0] is copy[1]


def test_a_pickle_returned_earlier_does_not_change() -> None:
    pickler = Pickler()
    big = [bytes([n]) * MB for n in range(2)]
    earlier = [pickler.dumps(obj) for obj in ("small", big[0], big[1])]
    assert [pickle.loads(whole(pickled)) for pickled in earlier] == ["small", *big]


def test_one_pickler_of_c_serves_all_objects_also_after_an_error() -> None:
    # Making one costs more than pickling a small object.
    pickler = Pickler()
    first = pickler._spare
    for obj in (1, b"x" * MB, UNPICKLABLE, LARGE_GRAPH, 2):
        with contextlib.suppress(pickle.PicklingError, AttributeError, TooLarge):
            pickler.dumps(obj)
        assert pickler._spare is first


def test_a_reduce_that_pickles_with_the_same_pickler() -> None:
    pickler = Pickler()

    class Nested:
        def __init__(self, depth: int) -> None:
            self.depth = depth

        def __reduce__(self) -> tuple[object, ...]:
            inner = Nested(self.depth - 1) if self.depth else "core"
            return pickle.loads, (pickler.dumps(inner),)

    obj = ["before", Nested(0), Nested(3), "after"]
    expected = ["before", "core", "core", "after"]
    for _ in range(2):
        assert pickle.loads(whole(pickler.dumps(obj))) == expected


def test_a_reduce_that_fails_to_pickle_with_the_same_pickler() -> None:
    pickler = Pickler()

    class Nested:
        def __reduce__(self) -> tuple[object, ...]:
            with pytest.raises((pickle.PicklingError, AttributeError)):
                pickler.dumps(UNPICKLABLE)
            return str, ("survived",)

    assert pickle.loads(whole(pickler.dumps([Nested(), 1]))) == ["survived", 1]


def test_other_threads_run_while_a_large_graph_is_pickled() -> None:
    over, turns = threading.Event(), 0

    def take_turns() -> None:
        nonlocal turns
        while not over.is_set():
            turns += 1
            time.sleep(0)  # lets go of the GIL, and asks for it

    graph = [{"n": n} for n in range(600_000)]
    thread = threading.Thread(target=take_turns)
    thread.start()
    try:
        while not turns:
            time.sleep(0)
        before = turns
        dumps_large(graph)
        during = turns - before
    finally:
        over.set()
        thread.join()
    assert during > 2  # or 1, where the pickler never lets go of the GIL


# Failure leaves it usable


SELF: list[object] = []
SELF.append(SELF)


@pytest.mark.parametrize(
    "obj",
    [
        UNPICKLABLE,
        ["before", UNPICKLABLE],
        [b"x" * MB, UNPICKLABLE],  # a piece is out already
        [SELF, UNPICKLABLE],
    ],
    ids=["at once", "in the middle", "after a piece", "with a memo"],
)
def test_after_an_exception_the_next_object_is_pickled(obj) -> None:
    pickler = Pickler()
    for _ in range(3):
        with pytest.raises((pickle.PicklingError, AttributeError)):
            pickler.dumps(obj)
        assert pickler.dumps(["next"]) == pickle.dumps(["next"])


def test_an_exception_from_a_reduce_passes_through() -> None:
    class Failing:
        def __reduce__(self) -> tuple[object, ...]:
            raise KeyError("mine")

    pickler = Pickler()
    with pytest.raises(KeyError, match="mine"):
        pickler.dumps(["before", Failing()])
    assert pickler.dumps("next") == pickle.dumps("next")


@pytest.mark.parametrize(
    "obj",
    [
        pytest.param(LARGE_GRAPH, id="large graph"),
        pytest.param([b"x" * MB] + [bytes([n]) * MB for n in range(9)], id="many"),
    ],
)
def test_after_too_large_the_next_object_is_pickled(obj) -> None:
    pickler = Pickler()
    for _ in range(3):
        with pytest.raises(TooLarge):
            pickler.dumps(obj)
        assert pickler.dumps(["next"]) == pickle.dumps(["next"])
        assert pickle.loads(whole(pickler.dumps(b"y" * MB))) == b"y" * MB


@pytest.mark.parametrize(
    "kind", [bytes, bytearray, lambda size: pickle.PickleBuffer(bytearray(size))]
)
def test_what_is_joined_may_be_bounded_in_bytes(kind) -> None:
    new = functools.partial(new_pickler, protocol=5)
    pickler = Pickler(new, most=MB)
    for _ in range(2):
        with pytest.raises(TooLarge):
            pickler.dumps([kind(MB)])
        with pytest.raises(TooLarge):
            dumps_small([kind(MB)], new, MB)
        for pickled in (pickler.dumps([kind(MB // 2)]), dumps_small([kind(9)], new, 9)):
            assert pickle.loads(whole(pickled))


def test_too_large_stops_early() -> None:
    seen = 0

    class Counted:
        def __reduce__(self) -> tuple[object, ...]:
            nonlocal seen
            seen += 1
            return str, (str(seen) * 100,)

    with pytest.raises(TooLarge):
        Pickler().dumps([Counted() for _ in range(100_000)])
    assert seen * 100 < 4 * LARGE


# As multiprocessing would


@pytest.mark.parametrize("dumps", [Pickler().dumps, dumps_large])
def test_reducers_registered_later_are_honoured(dumps, monkeypatch) -> None:
    with pytest.raises((pickle.PicklingError, AttributeError)):
        dumps(local := make_handle())
    monkeypatch.setitem(ForkingPickler._extra_reducers, type(local), None)
    ForkingPickler.register(type(local), reduce_handle)
    assert pickle.loads(whole(dumps([local]))) == ["reduced"]


@pytest.mark.parametrize("dumps", [Pickler().dumps, dumps_large])
def test_reducers_of_copyreg_are_honoured(dumps, monkeypatch) -> None:
    local = make_handle()
    monkeypatch.setitem(copyreg.dispatch_table, type(local), reduce_handle)
    assert pickle.loads(whole(dumps([local]))) == ["reduced"]


def make_handle() -> Handle:
    return type("Local", (Handle,), {})()


def test_what_multiprocessing_can_pickle_beyond_pickle() -> None:
    obj = [functools.partial(int, "7", base=8), "abc".upper, list.append]
    copies = pickle.loads(whole(Pickler().dumps(obj)))
    assert [copies[0](), copies[1](), copies[2]] == [7, "ABC", list.append]


# Large objects


@pytest.mark.parametrize(
    "surround",
    [lambda big: big, lambda big: ["a", big, "z"]],
    ids=["alone", "in a list"],
)
def test_large_bytes_are_passed_on_uncopied(surround) -> None:
    big = b"x" * MB
    pickled = Pickler().dumps(surround(big))
    assert isinstance(pickled, list)
    assert sum(piece is big for piece in pickled) == 1
    assert pickle.loads(b"".join(pickled)) == surround(big)
    assert sum(piece is big for piece in dumps_large(surround(big))) == 1


def test_pieces_are_bytes_that_the_owner_of_the_object_cannot_change() -> None:
    # On its way in another thread, a bytearray must be what it was when it was sent.
    changing = bytearray(b"x" * MB)
    for dumps in (Pickler().dumps, dumps_large):
        pickled = dumps(changing)
        assert all(type(piece) is bytes for piece in pickled)
        changing[0] += 1
        assert pickle.loads(whole(pickled))[0] == changing[0] - 1


LARGE_OBJECTS = {
    "nothing": None,
    "graph": LARGE_GRAPH,
    "records": [{"n": n, "name": f"name {n}", "xs": (n, -n)} for n in range(20_000)],
    "bytes": b"0123456789" * 350_000,
    "bytearray": bytearray(b"0123456789" * 350_000),
    "text": "0123456789" * 100_000,
    "wide text": "\N{SNOWMAN} and \N{GREEK SMALL LETTER ALPHA}" * 100_000,
    "nested": [{"deep": [b"x" * MB, {"deeper": ("y" * MB, bytearray(MB + 1))}]}] * 2,
    "lengths around a step": [b"x" * (LARGE + n) for n in (-1, 0, 1)],
}


@pytest.mark.parametrize("name", LARGE_OBJECTS)
def test_round_trip_of_a_large_object(name) -> None:
    obj = LARGE_OBJECTS[name]
    pickled = b"".join(dumps_large(obj))
    assert pickle.loads(pickled) == obj
    copy = loads_large(pickled)
    assert copy == obj
    assert type(copy) is type(obj)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ["graph", "bytearray", "nested"])
def test_large_pickles_of_every_protocol_are_loaded(name, protocol) -> None:
    obj = LARGE_OBJECTS[name]
    assert loads_large(pickle.dumps(obj, protocol)) == obj


def test_sharing_within_a_large_object_is_kept() -> None:
    shared = [b"x" * MB]
    copy = loads_large(b"".join(dumps_large([shared, shared])))
    assert copy[0] is copy[1]


def test_a_large_pickle_may_start_anywhere() -> None:
    pickled = b"".join(dumps_large(LARGE_OBJECTS["nested"]))
    assert loads_large(b"a table" + pickled, 7) == LARGE_OBJECTS["nested"]


def test_a_large_pickle_cut_short_is_an_error_at_every_place() -> None:
    pickled = pickle.dumps([b"a" * 9, bytearray(b"b" * 9), "c" * 9, [1, 2.5]], 5)
    for stop in range(len(pickled)):
        with pytest.raises((EOFError, pickle.UnpicklingError)):
            loads_large(pickled[:stop])
    assert loads_large(pickled) == pickle.loads(pickled)


def test_dumps_large_raises_what_pickling_raised() -> None:
    with pytest.raises((pickle.PicklingError, AttributeError)):
        dumps_large([LARGE_GRAPH, UNPICKLABLE])
