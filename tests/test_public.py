"""The front door: what is offered is there, and costs a worker nothing."""

import ast
import builtins
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

import aioipc
from aioipc import errors

HERE = Path(__file__).parent
HEAVY = {
    *("anyio", "asyncio", "dask", "distributed", "multiprocessing", "pickle", "socket"),
    *("trio", "uvloop"),
}


def run_python(code: str) -> object:
    """Run a program of its own, return the JSON that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


# The names


@pytest.mark.parametrize("name", aioipc.__all__)
def test_every_name_is_there(name) -> None:
    value = getattr(aioipc, name)
    if name != "__version__":
        assert value.__name__ == name
        home = importlib.import_module(value.__module__)
        assert getattr(home, name) is value
        assert name in home.__all__
        assert inspect.getdoc(value)


def test_dir_is_all_and_all_is_sorted() -> None:
    assert dir(aioipc) == sorted(aioipc.__all__)
    assert aioipc.__all__ == sorted(aioipc.__all__)
    assert len(set(aioipc.__all__)) == len(aioipc.__all__)


def test_what_a_type_checker_sees_is_what_is_there() -> None:
    source = ast.parse(inspect.getsource(aioipc))
    (block,) = (node for node in source.body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    imported = {
        alias.name: statement.module
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert imported == aioipc._HOME_OF
    assert {*imported, "__version__"} == {*aioipc.__all__}


@pytest.mark.parametrize("name", ["nonsense", "Any", "bridge_", "_wrap", "asyncio"])
def test_an_unknown_name_is_an_attribute_error(name) -> None:
    with pytest.raises(AttributeError, match=f"'aioipc' has no attribute '{name}'"):
        getattr(aioipc, name)
    assert not hasattr(aioipc, name)


def test_star_import_gives_everything() -> None:
    names: dict[str, object] = {}
    exec("from aioipc import *", names)
    assert {*aioipc.__all__} <= {*names}


def test_a_name_is_looked_up_once() -> None:
    code = """if True:
        import aioipc, json
        first = aioipc.wrap
        aioipc.__getattr__ = None
        print(json.dumps(aioipc.wrap is first))
    """
    assert run_python(code) is True


def test_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc|\.dev)\d+)?", aioipc.__version__)


def test_types_are_shipped() -> None:
    assert files("aioipc").joinpath("py.typed").is_file()


# What it costs


def test_import_aioipc_imports_nothing_heavy() -> None:
    code = """if True:
        import sys
        before = set(sys.modules)
        import aioipc
        loaded = sorted(set(sys.modules) - before)
        import json
        print(json.dumps(loaded))
    """
    loaded = run_python(code)
    assert isinstance(loaded, list)
    assert "aioipc" in loaded
    assert not {name.partition(".")[0] for name in loaded} & HEAVY
    assert {name for name in loaded if name.startswith("aioipc")} == {"aioipc"}


def test_no_pool_of_this_machine_imports_that_of_a_cluster() -> None:
    code = """if True:
        import aioipc, aioipc.testing, json, sys
        for kind in ("process", "thread", "inline"):
            aioipc.open_pool(kind)
        print(json.dumps(sorted({"dask", "distributed"} & set(sys.modules))))
    """
    assert run_python(code) == []


@pytest.mark.parametrize(
    "module", ["aioipc.wire.frames", "aioipc.wire.handshake", "aioipc.wire.pickles"]
)
def test_the_wire_is_standard_library_only(module) -> None:
    code = f"""if True:
        import sys, json, {module}, peers
        print(json.dumps(peers.frameworks()))
    """
    assert run_python(code) == []


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_worker_that_got_awaitables_imports_no_event_loop(method) -> None:
    # In a program of its own, because a worker of pytest may import pytest.
    code = f"""if True:
        import aioipc, json, multiprocessing, peers
        context = multiprocessing.get_context({method!r})
        report, theirs = context.Pipe()
        awaitable, plain = aioipc.Pipe(context=context)
        queues = [
            kind(context=context)
            for kind in (aioipc.Queue, aioipc.JoinableQueue, aioipc.SimpleQueue)
        ]
        locks = [aioipc.Lock(context=context), aioipc.Condition(context=context)]
        worker = context.Process(
            target=peers.tell_imports, args=(theirs, plain, awaitable, *queues, *locks)
        )
        worker.start()
        theirs.close()
        print(json.dumps(report.recv()))
        worker.join()
        awaitable.close()
        for queue in queues:
            queue.close()
    """
    kinds, frameworks = run_python(code)
    assert kinds == [
        "multiprocessing.connection.Connection",
        "multiprocessing.connection.Connection",
        "multiprocessing.queues.Queue",
        "multiprocessing.queues.JoinableQueue",
        "multiprocessing.queues.SimpleQueue",
        "multiprocessing.synchronize.Lock",
        "multiprocessing.synchronize.Condition",
    ]
    assert frameworks == []


# The errors, as their module draws them


def drawn_tree() -> dict[str, tuple[str, list[str]]]:
    """For each error its parent in the drawing, and the words beside it."""
    drawn: dict[str, tuple[str, list[str]]] = {}
    parents = ["Exception"]
    name = ""
    for line in inspect.getdoc(errors).splitlines():
        if branch := re.match(r"( +)((?:[│ ] {3})*)[├└]── (\w+) +(.*)", line):
            _, bars, name, words = branch.groups()
            depth = 1 + len(bars) // 4
            parents[depth:] = [name]
            drawn[name] = parents[depth - 1], words.split(", ")
        elif more := re.match(r" +│[│ ]* (\S.*)", line):
            drawn[name][1].extend(more[1].split(", "))
    return drawn


DRAWN = drawn_tree()


def bases_of(name: str) -> set[type]:
    """The foreign bases that the drawing gives to an error."""
    found = set()
    for words in DRAWN[name][1]:
        dotted, _, remark = words.partition(": since ")
        if remark and sys.version_info < tuple(map(int, remark.split("."))):
            continue
        dotted = dotted.partition(":")[0].rstrip(",")
        module, _, attribute = dotted.rpartition(".")
        if module:
            found.add(getattr(importlib.import_module(module), attribute))
        elif isinstance(getattr(builtins, dotted, None), type):
            found.add(getattr(builtins, dotted))
    return found


def test_the_drawing_has_every_error_and_no_other() -> None:
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and value.__module__ == errors.__name__
    }
    assert {*DRAWN} == {*errors.__all__} == defined
    assert {*errors.__all__} <= {*aioipc.__all__}


@pytest.mark.parametrize("name", errors.__all__)
def test_each_error_is_caught_by_what_is_drawn_and_by_nothing_else(name) -> None:
    error, parent = getattr(errors, name), DRAWN[name][0]
    for base in bases_of(name) | {getattr(errors, parent, Exception)}:
        with pytest.raises(base, match="why"):
            raise error("why")
    ours = {getattr(errors, parent)} if parent != "Exception" else set()
    assert {*error.__bases__} == bases_of(name) | ours


def test_errors_say_what_they_were_given() -> None:
    for name in errors.__all__:
        assert str(getattr(errors, name)("why")) == "why"
