"""What a worker has been sent, and its threads take: no process, no socket."""

import pytest

from aioipc.broker.basket import Basket
from aioipc.wire.broker import SLOTS, Kind, Want, decode_count, encode_items


class FakeLink:
    """Keeps what is sent, and counts tokens.

    :ivar sent: kinds, slots and bodies
    """

    def __init__(self, slots: int) -> None:
        self.sent: list[tuple[Kind, int, bytes]] = []
        self.tokens = [0] * slots
        self.free = [*range(slots)]
        self.freed: list[int] = []
        self.more = iter(range(SLOTS, 100))

    @property
    def has_free_tokens(self) -> bool:
        return any(map(self.has_tokens, self.free))

    def has_tokens(self, slot: int) -> bool:
        return slot < len(self.tokens)

    def take_tokens(self, slot: int, count: int) -> int:
        taken = min(count, self.tokens[slot])
        self.tokens[slot] -= taken
        return taken

    def take_slot(self) -> int:
        return self.free.pop() if self.free else next(self.more)

    def free_slot(self, slot: int) -> None:
        assert slot not in self.free
        self.free.append(slot)
        self.freed.append(slot)

    def send(self, kind, number, slot, body) -> bool:
        assert number == NUMBER
        self.sent.append((kind, slot, b"".join(body)))
        return True

    def fail(self) -> None:
        raise AssertionError("something was left halfway")

    @property
    def wants(self) -> list[Want]:
        return [Want.decode(body) for kind, _, body in self.sent if kind == Kind.WANT]


NUMBER = 17


@pytest.fixture(params=[SLOTS, 0], ids=["tokens", "no tokens"])
def link(request):
    return FakeLink(request.param)


@pytest.fixture
def basket(link):
    return Basket(link, NUMBER, left=True, may_ask_ahead=True, leases=None)


class Lender:
    """Answers what a basket asks for."""

    def __init__(self, link: FakeLink, basket: Basket) -> None:
        self.link = link
        self.basket = basket
        self.lent = 0

    def lend(self, slot: int, *pickles: bytes) -> None:
        body = b"".join(encode_items(self.lent, pickles))
        self.lent += len(pickles)
        if self.link.has_tokens(slot):
            self.link.tokens[slot] += len(pickles)
        self.basket.on_answer(Kind.ITEMS, slot, body)


@pytest.fixture
def lender(link, basket):
    return Lender(link, basket)


def test_an_item_that_comes_between_a_look_and_an_ask_is_not_asked_for(
    link, basket, lender
):
    """The broker would take it from that that the item has been taken."""
    asked = basket.ask(1, fair=True)
    assert basket.take(1) == (0, ())  # another thread, which would ask next
    lender.lend(asked.slot, b"one")
    assert basket.ask(1, fair=True).is_answered
    assert len(link.wants) == 1
    assert basket.take(1) == (0, [b"one"])


def test_what_another_thread_has_left_is_not_asked_for(link, basket, lender):
    asked = basket.ask(2, fair=False)
    lender.lend(asked.slot, b"one", b"two")
    assert basket.take(1) == (0, [b"one"])
    assert basket.ask(1, fair=True).is_answered
    assert basket.take(1) == (1, [b"two"])
    assert not basket.ask(1, fair=True).is_answered
    assert all(want.idle for want in link.wants)
    told = [(kind, decode_count(body)) for kind, _, body in link.sent if len(body) == 8]
    assert told == ([] if link.tokens else [(Kind.TAKEN, 1)] * 2)


def test_a_slot_is_free_when_the_last_item_is_taken(link, basket, lender):
    asked = basket.ask(1, fair=True)
    lender.lend(asked.slot, b"one")
    assert asked.slot not in link.free
    basket.take(1)
    assert asked.slot in link.free


@pytest.mark.parametrize("link", [SLOTS], indirect=True)
def test_a_slot_is_free_when_the_rest_was_taken_back(link, basket, lender):
    asked = basket.ask(2, fair=False)
    lender.lend(asked.slot, b"one", b"two")
    link.tokens[asked.slot] = 0
    assert basket.take(2) == (0, ())
    assert asked.slot in link.free


def test_who_is_slow_is_not_sent_more(link, basket, lender, monkeypatch):
    """The time counts from the first item of a batch to the next look for more."""
    now = 0.0
    monkeypatch.setattr("aioipc.broker.basket.perf_counter", lambda: now)
    for _ in range(3):
        asked = basket.ask(1, fair=True)
        lender.lend(asked.slot, b"one")
        assert basket.take(1)[1]
        now += 1.0  # what the item takes
        assert not basket.take(1)[1]
    assert [want.most for want in link.wants] == [1, 1, 1]


def test_what_is_put_back_comes_before_all_others(link, basket, lender):
    asked = basket.ask(3, fair=False)
    lender.lend(asked.slot, b"a", b"b", b"c", b"d", b"e")
    first, pickles = basket.take(4)
    basket.put_back(first, pickles, but=1)
    sent = len(link.sent)
    assert basket.take(9) == (0, [b"a"])
    assert basket.take(1) == (2, [b"c"])
    assert basket.ask(9, fair=False).is_answered
    assert basket.take(9) == (3, [b"d"])
    assert len(link.sent) == sent  # that these are ours the broker knows
    assert basket.take(9) == (4, [b"e"])
    assert [basket.count_done() for _ in range(6)] == [True] * 5 + [False]


def test_who_leaves_keeps_what_is_taken_and_nothing_else(link, basket, lender):
    asked = basket.ask(3, fair=False)
    lender.lend(asked.slot, b"a", b"b", b"c")
    first, pickles = basket.take(2)
    basket.put_back(first, pickles)
    basket.leave()
    if link.tokens:
        assert link.sent[-1] == (Kind.UNWANT, asked.slot, b"")
        link.tokens[asked.slot] = 0  # it has taken it back
    else:
        assert link.sent[-1] == (Kind.UNTAKEN, asked.slot, b"")
    assert basket.take(9) == (0, [b"a", b"b"])
    assert basket.take(9) == (0, ())
    assert link.freed == [asked.slot]


def test_who_leaves_asks_for_nothing_that_would_be_waited_for(link, basket):
    asked = basket.ask(1, fair=True)
    basket.leave()
    assert link.sent[-1] == (Kind.UNWANT, asked.slot, b"")
    basket.on_answer(Kind.NO_ITEMS, asked.slot, b"")
    assert asked.is_answered
    assert not asked.is_refused
