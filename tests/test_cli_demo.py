"""The demo as its user meets it: a command with output, an exit code and a Ctrl-C."""

from __future__ import annotations

import json
import multiprocessing
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
from anyio.to_thread import run_sync

from aioipc.cli._ctrl_c import cancel_at, held_back
from aioipc.cli._fanout import fan_out
from aioipc.cli._measure import FileReport, FunctionReport
from aioipc.cli._report import Run, as_json
from aioipc.cli._tables import as_tables
from aioipc.cli._tally import Tally
from aioipc.cli.demo import find_sources

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parent.parent
DEMO = (sys.executable, "-m", "aioipc", "demo")
LOOPS = ("asyncio", "uvloop", "trio")


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=CHECKOUT, capture_output=True, text=True, timeout=30, check=False
    )


def run_python(code: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-c", code, *args)


def run_demo(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return run(*DEMO, *args)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Three files to measure, one of them broken, and three to leave alone."""
    for name, source in {
        "a.py": "def f(x):\n    if x and x.y:\n        return x\n",
        "deep/er/b.py": "class C:\n    def m(self): return [x for x in self if x]\n",
        "deep/[red]broken.py": "def f(:\n",
        "deep/notes.txt": "def f(): pass\n",
        "site-packages/c.py": "def f(): pass\n",
        "deep/dist-packages/d.py": "def f(): pass\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return tmp_path


@pytest.mark.parametrize("loop", LOOPS)
def test_json_is_one_document_and_nothing_else(sources: Path, loop: str):
    result = run_demo("--path", sources, "--json", "--workers", "2", "--loop", loop)
    assert (result.returncode, result.stderr) == (0, "")
    document: dict[str, Any] = json.loads(result.stdout)
    for timing in ("serial_seconds", "parallel_seconds", "speed_up"):
        assert document.pop(timing) > 0
    assert document.pop("longest_standstill_seconds") >= 0
    assert document.pop("start_method") in {"forkserver", "spawn"}
    assert document.pop("cpus") >= 1
    assert document == {
        "root": str(sources),
        "files": 3,
        "lines": 5,
        "names": 7,
        "functions": 2,
        "complexity": 6,
        "most_complex": [
            {"path": "a.py", "line": 1, "name": "f", "complexity": 3},
            {"path": "deep/er/b.py", "line": 2, "name": "C.m", "complexity": 3},
        ],
        "failures": [
            {
                "path": "deep/[red]broken.py",
                "error": "SyntaxError: invalid syntax (line 1)",
            }
        ],
        "workers": 2,
        "loop": loop,
        "totals_match": True,
    }


@pytest.mark.parametrize("flags", [["--plain"], []])
def test_a_pipe_gets_plain_text(sources: Path, flags: list[str]):
    result = run_demo("--path", sources, "--workers", "1", *flags)
    assert (result.returncode, result.stderr) == (0, "")
    assert "\x1b" not in result.stdout
    for expected in (
        "serial, one process: 3 files",
        "parallel, 1 worker: 3 files",
        "deep/er/b.py:2",
        "deep/[red]broken.py",
        "SyntaxError: invalid syntax (line 1)",
        "speed-up",
        "The totals of both runs are equal.",
    ):
        assert expected in result.stdout


def test_a_terminal_gets_live_bars_and_its_cursor_back(sources: Path):
    code, screen = run_in_terminal(*DEMO, "--path", str(sources))
    assert code == 0
    hidden, shown = screen.rindex("\x1b[?25l"), screen.rindex("\x1b[?25h")
    assert hidden < shown
    assert "━" in screen


def test_plain_is_plain_on_a_terminal_too(sources: Path):
    code, screen = run_in_terminal(*DEMO, "--path", str(sources), "--plain")
    assert code == 0
    assert "\x1b" not in screen


def run_in_terminal(*command: str) -> tuple[int, str]:
    """Run with a terminal for stdout; return the exit code and all that it showed."""
    ours, theirs = pty.openpty()
    environ = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80"}
    with (
        os.fdopen(ours, "rb", buffering=0) as screen,
        subprocess.Popen(
            command, cwd=CHECKOUT, stdin=theirs, stdout=theirs, env=environ
        ) as process,
    ):
        os.close(theirs)
        shown = b""
        try:
            while chunk := screen.read(65536):
                shown += chunk
        except OSError:  # Linux's end of file: the other side has been closed.
            pass
        return process.wait(30), shown.decode()


def test_a_missing_directory_is_one_line_and_status_2(tmp_path: Path):
    result = run_demo("--path", tmp_path / "nowhere")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == f"Error: not a directory: {tmp_path / 'nowhere'}\n"


def test_an_empty_directory_is_no_error(tmp_path: Path):
    result = run_demo("--path", tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"0 Python files under {tmp_path}\n"

    document = json.loads(run_demo("--path", tmp_path, "--json").stdout)
    assert (document["files"], document["speed_up"]) == (0, None)
    assert document["totals_match"]


def test_what_cannot_be_opened_is_no_reason_to_stop(tmp_path: Path):
    (tmp_path / "link.py").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.py").mkdir()
    os.mkfifo(tmp_path / "fifo.py")
    document = json.loads(run_demo("--path", tmp_path, "--json").stdout)
    assert document["files"] == 1
    assert document["failures"] == [
        {
            "path": "link.py",
            "error": "FileNotFoundError: No such file or directory",
        }
    ]


def test_file_names_cannot_command_the_terminal(tmp_path: Path):
    (tmp_path / "\x1b[31m\udcff.py").write_text("def f(: pass\n")
    result = run_demo("--path", tmp_path)
    assert result.returncode == 0
    assert r"\x1b[31m\udcff.py" in result.stdout


def test_totals_that_differ_are_an_error():
    code = """
import sys
from aioipc.cli import _compare, main
from aioipc.cli._measure import FileReport

_compare.measure = FileReport  # What the plain loop calls: it now finds nothing.
main()
"""
    result = run_python(code, "demo", "--path", CHECKOUT / "aioipc" / "cli")
    assert result.returncode == 1
    assert "MISMATCH" in result.stdout


def test_without_click_and_rich_the_extra_is_named():
    for missing in ("click", "rich"):
        result = run_python(
            f"import sys; sys.modules[{missing!r}] = None\n"
            "from aioipc.cli import main; main()"
        )
        assert result.returncode == 2
        assert result.stderr == (
            "aioipc's command line needs: pip install 'aioipc[cli]'\n"
        )


def test_an_uninstalled_loop_is_one_line_and_status_2(sources: Path):
    result = run_python(
        "import sys; sys.modules['uvloop'] = None\nfrom aioipc.cli import main; main()",
        *("demo", "--loop", "uvloop", "--path", sources),
    )
    assert result.returncode == 2
    assert result.stderr == (
        "Error: uvloop is not installed: pip install 'aioipc[uvloop]'\n"
    )


def test_help_names_the_commands_and_usage_errors_exit_with_2():
    assert "demo" in run(*DEMO[:3], "--help").stdout
    assert run_demo("--workers", "0").returncode == 2
    assert run(*DEMO[:3], "nonsense").returncode == 2


@pytest.fixture
def long_work(tmp_path: Path) -> Path:
    """Files that keep two workers busy for far longer than a signal takes."""
    source = tmp_path / "0.py"
    source.write_text("def f(x): return x if x and x else [x for x in x]\n" * 2_000)
    for number in range(1, 12):
        (tmp_path / f"{number}.py").symlink_to(source)
    return tmp_path


@pytest.mark.parametrize(
    ("phase", "loop"), [("serial", "asyncio"), *(("parallel", it) for it in LOOPS)]
)
def test_ctrl_c_ends_it_at_once_and_in_silence(long_work: Path, phase: str, loop: str):
    with subprocess.Popen(
        [*DEMO, "--plain", "--workers", "2", "--loop", loop, "--path", long_work],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    ) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith(phase):
            pass
        os.killpg(process.pid, signal.SIGINT)
        # The pipes end when no process is left that could write to them: neither
        # the demo nor a worker, the fork server or the resource tracker.
        stdout, stderr = process.communicate(timeout=25)
    assert process.returncode == 130
    assert (stdout, stderr.strip()) == ("", "")


@pytest.fixture
def paths(sources: Path) -> list[str]:
    return find_sources(str(sources)) * 5


@pytest.fixture
def fifo(sources: Path) -> Path:
    """A file that keeps whoever reads it until someone has opened it to write."""
    path = sources / "fifo.py"
    os.mkfifo(path)
    return path


async def collect(paths: Sequence[str], workers: int = 1) -> list[FileReport]:
    reports: list[FileReport] = []
    await fan_out(
        paths, workers, reports.append, context=multiprocessing.get_context("spawn")
    )
    return reports


async def test_every_path_is_reported_once(paths: list[str]):
    for workers in (1, 3, 100):
        reports = await collect(paths, workers)
        assert sorted(report.path for report in reports) == sorted(paths)


async def test_no_paths_need_no_workers():
    assert await collect([], workers=3) == []


async def test_a_worker_that_dies_costs_the_file_it_was_on(sources: Path, fifo: Path):
    before, after = str(sources / "a.py"), str(sources / "deep/er/b.py")

    def kill_the_reader_of_the_fifo() -> None:
        with fifo.open("wb"):  # It opens when a worker opens it to read.
            for worker in multiprocessing.active_children():
                worker.kill()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_sync, kill_the_reader_of_the_fifo)
        reports = await collect([before, str(fifo), after, before])

    assert [report.path for report in reports] == [before, str(fifo), after, before]
    assert [report.error for report in reports] == [
        None,
        "the worker died on it: Killed",
        None,
        None,
    ]


async def test_a_cancelled_fan_out_leaves_no_worker(paths: list[str]):
    with anyio.CancelScope() as scope:
        await fan_out(
            paths * 20,
            2,
            lambda _: scope.cancel(),
            context=multiprocessing.get_context("spawn"),
        )
    assert scope.cancelled_caught
    assert multiprocessing.active_children() == []


async def test_ctrl_c_cancels_and_a_second_one_does_not_disturb_the_tidying_up():
    tidied = False

    async def work() -> None:
        nonlocal tidied
        try:
            signal.raise_signal(signal.SIGINT)
            await anyio.sleep_forever()
        finally:
            signal.raise_signal(signal.SIGINT)
            tidied = True

    with pytest.raises(KeyboardInterrupt), held_back() as press:
        await cancel_at(press, work)
    assert tidied


async def test_ctrl_c_before_the_work_is_awaited_is_not_forgotten():
    async def press_early() -> None:
        with held_back() as press:
            signal.raise_signal(signal.SIGINT)
            await cancel_at(press, anyio.sleep_forever)

    with pytest.raises(KeyboardInterrupt):
        await press_early()


async def test_without_ctrl_c_the_work_comes_to_its_end():
    before = signal.getsignal(signal.SIGINT)
    with held_back() as press:
        await cancel_at(press, anyio.lowlevel.checkpoint)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_mismatch_shows_in_every_report():
    serial, parallel = Tally(), Tally()
    serial.add(FileReport("/r/a.py", 9, 9, (FunctionReport("f", 1, 3),)))
    parallel.add(FileReport("/r/a.py", 9, 9, (FunctionReport("f", 1, 4),)))
    report = Run(
        root="/r",
        cpus=2,
        workers=2,
        start_method="spawn",
        loop="asyncio",
        serial=serial,
        serial_seconds=3.0,
        parallel=parallel,
        parallel_seconds=1.5,
        longest_standstill=0.001,
    )
    assert (report.speed_up, report.totals_match) == (2.0, False)
    assert as_json(report)["totals_match"] is False
    assert "MISMATCH" in str(list(as_tables(report))[-1])
