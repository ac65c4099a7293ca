"""What the benchmarks make of their samples. No peer of theirs has to be installed."""

import importlib.util
import math
import os
import pickle
import queue
import sys
import threading
import types
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

# Not by sys.path: beside the benchmarks lies aioipc's source, and what is tested is
# what is installed.
HOME = Path(__file__).parent.parent / "benchmarks"
_spec = importlib.util.spec_from_file_location(
    "benchmarks", HOME / "__init__.py", submodule_search_locations=[str(HOME)]
)
sys.modules["benchmarks"] = importlib.util.module_from_spec(_spec)

from aioipc.broker.shelves import Item  # noqa: E402
from benchmarks import (  # noqa: E402
    __main__,
    blocks,
    documents,
    effort,
    exchanges,
    figures,
    harness,
    loose,
    phrases,
)
from benchmarks.hangs import Ends  # noqa: E402
from benchmarks.isolation import TrialError, call_in_fresh_process  # noqa: E402
from benchmarks.ledger import CALLS, CONSUMER, PRODUCER  # noqa: E402
from benchmarks.maps import Streamed  # noqa: E402
from benchmarks.survival import Arrivals, Findings, Survival  # noqa: E402


@dataclass(frozen=True)
class Somebody:
    name: str
    library: str = ""
    loop: str | None = None
    module: str | None = None


US, THEM = Somebody("we"), Somebody("they")


@pytest.fixture
def in_this_process(monkeypatch) -> None:
    def call(function, within):
        return function()

    monkeypatch.setattr(harness, "call_in_fresh_process", call)


def test_a_claim_is_judged_by_the_median_of_the_ratios_within_rounds() -> None:
    claim = harness.Claim(US, THEM, at_most=0.5)
    # The medians' ratio would be 0.2: only within a round do both meet one machine.
    rounds = [{"we": 1, "they": 10}, {"we": 4, "they": 4}, {"we": 2, "they": 5}]
    verdict = harness.Verdict(claim, claim.values(rounds))
    assert verdict.median == pytest.approx(0.4)
    assert verdict.met
    assert figures.median_ratio(rounds, "we", "they") == pytest.approx(0.4)


def test_rounds_in_which_one_of_both_is_missing_do_not_count() -> None:
    claim = harness.Claim(US, THEM, at_most=0.5)
    rounds = [{"we": 1.0}, {"they": 1.0}, {"we": 6.0, "they": 8.0}]
    assert claim.values(rounds) == [0.75]
    assert harness.Verdict(claim, claim.values(rounds)).met is False


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    assert harness.Verdict(harness.Claim(US, THEM, 0.5), []).met is None
    assert harness.Verdict(harness.Claim(US, None), [3.0]).met is None


def judged(subject: Somebody, rounds: list[harness.Round], **also: list[str]) -> object:
    claim = harness.Claim(subject, THEM, at_most=0.5)
    case = harness.Case("a case", lambda _: 1.0, (claim,))
    (verdict,) = harness.Outcome(case, rounds, **also).verdicts()
    return verdict.met, verdict.failures


def test_who_fails_in_any_round_misses_the_target() -> None:
    good, bad = {"we": 1.0, "they": 4.0}, {"they": 4.0}
    assert judged(US, [good, good]) == (True, 0)
    assert judged(US, [good, bad]) == (False, 1)
    assert judged(US, [bad, bad]) == (False, 2)


def test_when_others_fail_or_are_not_here_no_one_misses_a_target() -> None:
    assert judged(US, [{"we": 1.0}]) == (None, 0)
    assert judged(US, [{"they": 4.0}], absent=["we"]) == (None, 0)


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("flags", [["--quick"], ["--rounds=1"]])
def test_a_run_in_which_we_fail_is_none_that_succeeds(
    flags, monkeypatch, tmp_path, capsys
) -> None:
    def trial(contestant: Somebody) -> float:
        if contestant is US:
            raise TrialError("we fell over")
        return 1.0

    def cases(_: effort.Effort) -> list[harness.Case]:
        return [harness.Case("a case", trial, (harness.Claim(US, THEM, 1.0),))]

    suite = types.SimpleNamespace(cases=cases)
    monkeypatch.setitem(sys.modules, "benchmarks.bridge", suite)
    with pytest.raises(SystemExit) as ended:
        __main__.main(["--suite=bridge", "--only=a case", *flags])
    assert ended.value.code == 1
    assert "failed: we: we fell over" in capsys.readouterr().out


@pytest.mark.usefixtures("in_this_process")
def test_a_run_skips_who_is_not_installed_and_goes_on_after_a_failure() -> None:
    absent = Somebody("absent", module="no_such_module_anywhere")

    def trial(contestant: Somebody) -> float:
        if contestant is THEM:
            raise TrialError("they fell over")
        return 2.0

    claims = (harness.Claim(US, THEM), harness.Claim(US, absent))
    case = harness.Case("a case", trial, claims, most_rounds=3)
    begun: list[str] = []
    (outcome,) = harness.run(case, 5, lambda number, who: begun.append(who.name))
    assert outcome.rounds == [{"we": 2.0}] * 3
    assert outcome.absent == ["absent"]
    assert outcome.failures == ["they: they fell over"] * 3
    assert sorted(begun) == ["they"] * 3 + ["we"] * 3


@pytest.mark.usefixtures("in_this_process")
def test_parts_of_a_case_are_outcomes_of_the_same_measurements() -> None:
    numbers = iter(range(100))

    def trial(_: Somebody) -> tuple[float, float]:
        number = float(next(numbers))
        return number, number + 0.5

    claims = (harness.Claim(US, None),)
    case = harness.Case("a case", trial, claims, parts=("low", "high"))
    low, high = harness.run(case, 2)
    assert (low.case.name, high.case.name) == ("a case, low", "a case, high")
    assert low.rounds == [{"we": 0.0}, {"we": 1.0}]
    assert high.rounds == [{"we": 0.5}, {"we": 1.5}]


def test_what_the_workers_of_a_fork_server_used_is_ours(fork) -> None:
    def trial() -> None:
        told, tells = os.pipe()
        if not os.fork():  # as a fork server does
            worker = os.fork()
            if not worker:
                sum(range(10_000_000))
                os._exit(0)
            os.waitpid(worker, 0)
            os.write(tells, b".")
            os._exit(0)  # nobody waits for it
        os.read(told, 1)

    before = os.times().children_user
    call_in_fresh_process(trial, within=30)
    assert os.times().children_user - before > 0.05


def test_a_contestant_of_many_claims_is_measured_once() -> None:
    claims = (harness.Claim(US, THEM), harness.Claim(US, Somebody("they", "again")))
    case = harness.Case("a case", lambda _: 1.0, claims)
    assert sorted(it.name for it in case.contestants()) == ["they", "we"]


def test_a_sketch_leaves_out_second_loops_and_long_cases_and_says_so() -> None:
    second = Somebody("lib on uvloop", "lib", "uvloop")
    short = harness.Case(
        "short", lambda _: 1.0, (harness.Claim(US, THEM), harness.Claim(US, second))
    )
    long = harness.Case(
        "long", lambda _: 1.0, (harness.Claim(US, THEM),), in_sketch=False
    )
    assert effort.sketch(short).contestants() == [THEM, US]
    assert effort.sketch(long) is None
    assert effort.left_out([short, long]) == ["long", "lib on uvloop, everywhere"]


def test_percentiles_are_samples() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert [figures.percentile(values, it) for it in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert figures.percentile([7.0], 0.99) == 7.0


def test_growth_is_told_for_each_task_and_in_megabytes() -> None:
    streamed = Streamed(count=1_000, seconds=2.0, peak=3_000_000)
    assert streamed.for_each == 0.002
    assert streamed.megabytes == 3.0


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.0000123, "12 µs"), (0.00123, "1.2 ms"), (0.0996, "100 ms"), (2.0, "2.0 s")],
)
def test_times_have_the_unit_and_the_digits_that_suit_them(value, written) -> None:
    assert figures.seconds(value) == written


def test_a_block_is_filled_and_what_is_around_it_stays() -> None:
    text = "a\n<!-- figures: one -->\nold\n<!-- /figures -->\nb <!-- figures -->\n"
    filled = documents.fill(text, {"one": lambda _: "new\n"}, figures.Results())
    assert filled == text.replace("old", "new")
    assert documents.fill(filled, {"one": lambda _: "new\n"}, None) == filled


def test_a_figure_in_a_sentence_is_filled_too() -> None:
    text = "It takes <!-- figures: one --><!-- /figures -->, and no more."
    filled = documents.fill(text, {"one": lambda _: "2 ms"}, figures.Results())
    assert filled == text.replace("--><!-- /", "-->2 ms<!-- /")
    assert documents.fill(filled, {"one": lambda _: "2 ms"}, None) == filled


def test_phrases_have_the_unit_of_a_sentence() -> None:
    cases = {
        phrases.CALL: [{"aioipc on asyncio": 0.0000123}],
        phrases.AT_ONCE: [{"aioipc on asyncio": 25.0}],  # ms, of 10,000
        phrases.ARRAYS: [{"aioipc on asyncio": 3.0, "bare shared memory": 2.0}],
    }
    results = figures.Results({it: {"samples": made} for it, made in cases.items()})
    names = ("call", "beginning a call", "arrays beside bare copies", "first result")
    told = [phrases.PHRASES[name](results) for name in names]
    assert told == ["12 µs", "2.5 µs", "1.5 times", "not measured"]


@pytest.mark.parametrize(
    "typed",
    ["16 µs", "1.2 ms", "38 ms", "5,000 MB", "0.81x", "12 times", "four times", "13 %"],
)
def test_a_figure_that_was_typed_is_told(typed) -> None:
    text = f"It takes {typed}, from\n<!-- figures: a -->53 µs<!-- /figures -->."
    assert list(loose.loose("pool.md", text)) == [typed]
    assert list(loose.loose("pool.md", f"Now:\n{loose.EXPERIMENTS}{text}")) == []


def test_a_figure_that_was_chosen_may_be_typed() -> None:
    text = "From 64 KB on. In 2 ms, 100 items or a 3.11 of 8 MiB; in ten times."
    assert list(loose.loose("pool.md", text)) == ["ten times"]


@pytest.mark.parametrize("name", loose.CHOSEN)
def test_what_may_be_typed_is(name) -> None:
    home = documents.ROOT if name == "README.md" else documents.ROOT / "docs"
    typed = set(loose.FIGURE.findall((home / name).read_text()))
    assert typed >= loose.CHOSEN[name]


def test_a_block_that_nobody_writes_is_an_error() -> None:
    text = "<!-- figures: nonsense -->\n<!-- /figures -->"
    with pytest.raises(KeyError, match="nonsense"):
        documents.fill(text, blocks.BLOCKS, figures.Results())


@pytest.mark.parametrize("name", blocks.BLOCKS)
def test_a_block_without_results_says_that_nothing_was_measured(name) -> None:
    assert "not measured" in blocks.BLOCKS[name](figures.Results())


def test_the_targets_that_are_not_met_are_named() -> None:
    claims = [
        {"subject": "we", "reference": "they", "median": 0.4, "at_most": 0.5},
        {"subject": "we", "reference": None, "median": 25.5, "at_most": 25},
        {"subject": "we", "reference": "they", "median": 3.0, "at_most": None},
    ]
    for claim, met in zip(claims, (True, False, None), strict=True):
        claim["met"] = met
    told = blocks.targets(figures.Results({"it": {"samples": [], "claims": claims}}))
    assert told.startswith("1 of 2 targets are met.")
    assert told.endswith("| it | we |  | 25.5 | 25 |\n")


def test_failures_are_told_with_the_targets() -> None:
    ours = {"subject": "we", "reference": "they", "median": None, "at_most": 0.5}
    case = {
        "samples": [{"they": 1.0}, {}],
        "claims": [{**ours, "met": False, "failures": 2}],
        "failures": [
            "we: the process died without a result\nwords\n",
            "we: the process died without a result\nother words\n",
            "they: Traceback (most recent call last):\n  ...\nOSError: no room\n",
        ],
    }
    told = blocks.targets(figures.Results({"it": case}))
    lines = [
        "- it: we: the process died without a result",
        "- it: they: OSError: no room",
    ]
    assert "| it | we | they | failed in 2 of 2 rounds | 0.5 |\n" in told
    assert told.splitlines()[-3:] == ["", *lines]


def test_ratios_of_the_results_skip_what_has_no_sample() -> None:
    case = {"name": "it", "samples": [{"we": 1.0, "they": 4.0}, {"we": 3.0}]}
    results = figures.Results({"it": case})
    assert results.ratio("it", "we", "they") == 0.25
    assert results.median("it", "we") == 2.0
    assert results.ratio("it", "we", "nobody") is None
    assert results.median("no such case", "we") is None
    assert results.contestants("it") == ["they", "we"]
    assert not math.isnan(results.median("it", "they"))


class Lots:
    """One end of a link that sends and receives lists, as a Broker's queues do."""

    def __init__(self, outgoing, incoming, most) -> None:
        self.outgoing, self.incoming, self.most = outgoing, incoming, most
        self.received = []

    def send(self, items) -> None:
        assert 1 <= len(items) <= exchanges.LOT
        for item in items:
            self.outgoing.put(item)

    async def send_soon(self, items) -> None:
        self.send(items)

    def recv(self) -> list:
        items = [self.incoming.get(timeout=10)]
        while len(items) < self.most and not self.incoming.empty():
            items.append(self.incoming.get())
        self.received += items
        return items

    async def recv_soon(self) -> list:
        return await anyio.to_thread.run_sync(self.recv)


@pytest.fixture(params=["receive", "send"])
def lots(request):
    """An exchange in lots, with its peer in a thread."""
    exchange = getattr(exchanges, f"{request.param.upper()}_LOTS")
    there, back = queue.Queue(), queue.Queue()
    ours, theirs = (Lots(*it, exchanges.LOT) for it in ((there, back), (back, there)))
    link = exchanges.Link(theirs.send, theirs.recv)
    peer = threading.Thread(target=exchange.peer, args=(link, "it"))
    peer.start()
    yield exchange, ours, theirs if request.param == "send" else ours
    ours.send(exchange.last)
    peer.join()


COUNTS = pytest.mark.parametrize("count", [1, 255, 256, 257, 1_000])


@COUNTS
def test_so_many_messages_pass_in_lots(lots, count) -> None:
    exchange, ours, receiver = lots
    for _ in range(2):
        exchange.blocking(exchanges.Link(ours.send, ours.recv), "it", count)
    assert receiver.received.count("it") == 2 * count


@COUNTS
async def test_so_many_messages_pass_in_lots_awaited(
    lots, count, anyio_backend, quick_threads
) -> None:
    exchange, ours, receiver = lots
    await exchange.awaiting(exchanges.Link(ours.send_soon, ours.recv_soon), "it", count)
    assert receiver.received.count("it") == count


def test_a_queue_is_told_beside_the_plain_one() -> None:
    case = "broker, worker to coordinator"
    samples = [{"multiprocessing.Queue": 3e-6, "aioipc.Broker on asyncio": 2e-6}]
    told = blocks.BLOCKS["broker"](
        figures.Results({case: {"name": case, "samples": samples}})
    )
    assert "| `multiprocessing.Queue` | 3.0 µs | not" in told
    assert "| `Broker().Queue()` | 2.0 µs (1.5x) | not" in told
    assert "| `Manager().Queue()` |  | not" in told


def arrive(arrivals, *numbers: tuple[int, int]) -> None:
    for producer, number in numbers:
        item = (producer, number, b"")
        arrivals.push(Item(item, pickle.dumps(item)))


def test_arrivals_are_in_order_or_it_is_noticed() -> None:
    arrivals = Arrivals()
    arrive(arrivals, (0, 0), (1, 0), (0, 1), (0, 4), (1, 1), (0, 1), (0, 5))
    assert arrivals.next == [6, 2]
    assert (arrivals.missing, arrivals.repeated) == (2, 1)
    item = arrivals.pop()
    arrivals.restore([item])  # is no arrival
    assert (len(arrivals), arrivals.repeated) == (7, 1)


@pytest.fixture
def survival():
    """A run that has ended; four items of one producer, and one of the other."""

    def ended(ack: str) -> Survival:
        run = Survival(ack, 0, 0)
        arrive(run.arrivals, *((0, number) for number in range(4)), (1, 0))
        for number in (0, 1, 1, 2):
            run.ledger.note_got(0, number)
        run.ledger.note_got(1, 0)
        for number in (0, 1, 1, 2):
            run.ledger.note_done(0, number)
        return run

    return ended


def test_what_was_got_again_but_done_once_is_no_fault(survival) -> None:
    run = survival("manual")
    run._account()
    found = run.found
    assert (found.items, found.again, found.gaps, found.doubled) == (5, 1, 1, 1)
    assert not found.is_right


def test_without_task_done_what_was_got_twice_is_doubled(survival) -> None:
    run = survival("auto")
    run._account()
    found = run.found
    assert (found.in_hand, found.gaps, found.doubled) == (1, 0, 1)


@pytest.mark.parametrize(
    "fault",
    [{"gaps": 1}, {"doubled": 1}, {"open": 1}, {"failed": 1}, {"in_hand": 3}],
)
def test_each_fault_is_one(fault) -> None:
    assert Findings(again=2, most_in_hand=2).is_right
    assert not Findings(most_in_hand=2, **fault).is_right


def test_what_put_has_returned_from_and_never_came_is_a_gap() -> None:
    run = Survival("manual", 0, 0)
    arrive(run.arrivals, (0, 0), (0, 1))
    run.ledger.put[0] = 4
    run._compare(0)
    assert run.found.gaps == 2
    assert run.ledger.put[0] == 2


@pytest.mark.slow
@pytest.mark.parametrize("ack", ["manual", "auto"])
async def test_a_queue_survives_its_users(ack, anyio_backend, fork) -> None:
    # The long form is `python -m benchmarks.survival`.
    found = await Survival(ack, 3, 30_000).run()
    assert found.is_right, str(found)
    assert found.items >= 30_000
    assert found.killed[PRODUCER] + found.killed[CONSUMER] >= 3
    assert found.most_in_hand <= found.killed[CONSUMER] * max(CALLS)


def test_hung_queues_are_told() -> None:
    told = str(Ends(kills=[1, 3], hung=2, lost=1_234))
    assert "2 of 2 hung; killed in each: 1, 3" in told
    assert "1,234 items gone" in told
