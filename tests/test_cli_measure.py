"""What the demo's worker makes of a file: sound, broken, missing, and many of them."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aioipc.cli._measure import FileReport, FunctionReport, measure, serve
from aioipc.cli._tally import Failure, Hotspot, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

    Write = Callable[[str | bytes], str]

CHECKOUT = Path(__file__).parent.parent


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Put source into a file, and return its path."""

    def write(source: str | bytes) -> str:
        path = tmp_path / "source.py"
        path.write_bytes(source if isinstance(source, bytes) else source.encode())
        return str(path)

    return write


def body(*lines: str, head: str = "def f(*a):") -> str:
    return "\n    ".join((head, *lines)) + "\n"


def complexities(report: FileReport) -> dict[str, int]:
    assert report.error is None
    return {function.name: function.complexity for function in report.functions}


@pytest.mark.parametrize(
    ("source", "complexity"),
    [
        pytest.param(body("pass"), 1, id="nothing to decide"),
        pytest.param(body("if a: pass"), 2, id="if"),
        pytest.param(body("if a: pass", "else: pass"), 2, id="else"),
        pytest.param(
            body("if a: pass", "elif b: pass", "elif c: pass", "else: pass"),
            4,
            id="elif",
        ),
        pytest.param(body("for x in a: pass"), 2, id="for"),
        pytest.param(body("for x in a: pass", "else: pass"), 2, id="for-else"),
        pytest.param(body("while a: pass"), 2, id="while"),
        pytest.param(
            body("try: pass", "except A: pass", "except B: pass", "finally: pass"),
            3,
            id="except",
        ),
        pytest.param(body("try: pass", "except* A: pass"), 2, id="except group"),
        pytest.param(body("with a as b, c: pass"), 1, id="with"),
        pytest.param(body("return a and b and c"), 3, id="and"),
        pytest.param(body("return a or b and c"), 3, id="or, and"),
        pytest.param(body("return not a"), 1, id="not"),
        pytest.param(body("return 0 < a < 10"), 1, id="chained comparison"),
        pytest.param(body("if a and b: pass"), 3, id="if, and"),
        pytest.param(body("return b if a else c"), 2, id="ternary"),
        pytest.param(body("assert a"), 2, id="assert"),
        pytest.param(body("return [x for x in a]"), 2, id="comprehension"),
        pytest.param(
            body("return {x: y for x in a if x for y in x if y if z}"),
            6,
            id="comprehension with ifs",
        ),
        pytest.param(body("return lambda: b if a else c"), 2, id="lambda"),
        pytest.param(
            body("match a:", "    case 1: pass", "    case [2]: pass"), 3, id="match"
        ),
        pytest.param(
            body("match a:", "    case 1 | 2 | 3: pass", "    case _: pass"),
            4,
            id="match with | and a wildcard",
        ),
        pytest.param(
            body("match a:", "    case 1 if b: pass", "    case x if c: pass"),
            4,
            id="match with guards",
        ),
        pytest.param(
            body(
                "async for x in a: pass",
                "async with b: await c",
                "return [y async for y in d]",
                head="async def f():",
            ),
            3,
            id="async",
        ),
    ],
)
def test_complexity_is_mccabes(write: Write, source: str, complexity: int):
    assert complexities(measure(write(source))) == {"f": complexity}


def test_nested_functions_and_methods_are_measured_on_their_own(write: Write):
    source = """\
if module_level: pass

class Outer:
    if class_level: pass

    def method(self):
        if a: pass
        def inner():
            while b: pass
        async def other(): pass
        return lambda: c or d

    class Inner:
        @property
        def deep(self): assert e
"""
    assert measure(write(source)).functions == (
        FunctionReport("Outer.method", 6, 3),
        FunctionReport("Outer.method.inner", 8, 2),
        FunctionReport("Outer.method.other", 10, 1),
        FunctionReport("Outer.Inner.deep", 15, 2),
    )


def test_lines_and_names_are_counted(write: Write):
    path = write("import os\n\n# a comment\nx = y = os.name\ndef f(a): return a\n")
    report = measure(path)
    # Names in use: x, y, os, a. Not `f`, not the parameter, not the attribute.
    assert (report.path, report.lines, report.names) == (path, 5, 4)


@pytest.mark.parametrize("source", [b"", b"\n", b"\xef\xbb\xbfx = 1\n"])
def test_a_file_without_functions_is_no_error(write: Write, source: bytes):
    report = measure(write(source))
    assert (report.error, report.functions) == (None, ())


def test_the_encoding_that_a_file_declares_is_honoured(write: Write):
    assert measure(write(b"# coding: latin-1\nx = '\xe9'\n")).error is None


@pytest.mark.parametrize(
    ("source", "error"),
    [
        pytest.param(b"def f(:\n", "SyntaxError: invalid syntax (line 1)", id="syntax"),
        pytest.param(b"\nif x:\n", "IndentationError: expected an", id="indentation"),
        pytest.param(b"x = '\xff'\n", "SyntaxError: (unicode error)", id="not UTF-8"),
        pytest.param(b"# coding: no\n", "SyntaxError: unknown encoding", id="encoding"),
        pytest.param(b"x = 1\0\n", "null bytes", id="null byte"),
        pytest.param(b"(" * 250 + b")" * 250, "too many nested", id="parentheses"),
        pytest.param(b"x" + b".y" * 50_000, "Error", id="nested without end"),
    ],
)
def test_what_does_not_parse_is_a_report(write: Write, source: bytes, error: str):
    report = measure(write(source))
    assert report.error is not None
    assert error in report.error
    assert "\n" not in report.error
    assert (report.lines, report.names, report.functions) == (0, 0, ())


def test_what_cannot_be_read_is_a_report(tmp_path: Path):
    missing = measure(str(tmp_path / "gone.py"))
    assert missing.error == "FileNotFoundError: No such file or directory"
    folder = measure(str(tmp_path))
    assert folder.error == "IsADirectoryError: Is a directory"


def test_a_long_elif_chain_nests_deeply_and_is_measured(write: Write):
    branches = ["if a: pass", *("elif a: pass" for _ in range(150))]
    assert complexities(measure(write(body(*branches)))) == {"f": 152}


def test_warnings_of_the_parser_neither_show_nor_fail(write: Write):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = measure(write(r"def f(): return '\d', 1or 0" + "\n"))
    assert complexities(report) == {"f": 2}


def test_a_report_survives_pickling(write: Write):
    report = measure(write(body("if a: pass")))
    assert pickle.loads(pickle.dumps(report)) == report


@pytest.fixture
def worker() -> Iterator[tuple[Connection, SpawnProcess]]:
    """A worker in `serve`, and the coordinator's end of its connection."""
    context = multiprocessing.get_context("spawn")
    parent, child = context.Pipe()
    process = context.Process(target=serve, args=(child,))
    process.start()
    child.close()
    with parent:
        yield parent, process
    process.kill()
    process.join()
    process.close()


def test_a_worker_answers_in_order_until_none(write: Write, worker):
    connection, process = worker
    path = write("x = 1\n")
    connection.send(path)
    connection.send("/nowhere.py")
    connection.send(None)
    assert [connection.recv(), connection.recv()] == [
        measure(path),
        FileReport("/nowhere.py", error="FileNotFoundError: No such file or directory"),
    ]
    process.join(10)
    assert process.exitcode == 0


def test_a_worker_whose_coordinator_is_gone_ends_in_silence(worker, capfd):
    connection, process = worker
    connection.close()
    process.join(10)
    assert process.exitcode == 0
    assert capfd.readouterr().err == ""


def test_a_worker_takes_no_notice_of_ctrl_c(write: Write, worker):
    connection, process = worker
    connection.send(write("x = 1\n"))
    connection.recv()  # So it is past the start.
    os.kill(process.pid, signal.SIGINT)
    connection.send(write("x = 1\n"))
    assert connection.recv().error is None


def test_a_worker_imports_neither_an_event_loop_nor_the_command_line():
    heavy = {"asyncio", "anyio", "trio", "uvloop", "click", "rich"}
    code = f"import sys, aioipc.cli._measure; print({heavy} & {{*sys.modules}})"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert result.stdout == "set()\n"


REPORTS = (
    FileReport("b.py", 10, 5, (FunctionReport("f", 1, 3), FunctionReport("g", 5, 7))),
    FileReport("a.py", 20, 6, (FunctionReport("h", 9, 3), FunctionReport("i", 2, 3))),
    FileReport("d.py", error="no"),
    FileReport("c.py", error="never"),
)


def tally(reports, *, top: int = 10) -> Tally:
    result = Tally(top)
    for report in reports:
        result.add(report)
    return result


def test_a_tally_adds_up():
    assert tally(REPORTS, top=3) == Tally(
        top=3,
        files=4,
        lines=30,
        names=11,
        functions=4,
        complexity=16,
        most_complex=[
            Hotspot("b.py", 5, "g", 7),
            Hotspot("a.py", 2, "i", 3),
            Hotspot("a.py", 9, "h", 3),
        ],
        failures=[Failure("c.py", "never"), Failure("d.py", "no")],
    )


def test_a_tally_does_not_depend_on_the_order_of_arrival():
    first, *others = (tally(them, top=3) for them in itertools.permutations(REPORTS))
    assert all(other == first for other in others)


def test_tallies_differ_when_one_function_does():
    changed = FileReport("b.py", 10, 5, (FunctionReport("f", 1, 10),))
    assert tally([REPORTS[0]]) != tally([changed])
