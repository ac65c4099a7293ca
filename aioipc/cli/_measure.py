"""What does one Python file hold? The work of `aioipc demo`, and its worker.

This is what a worker process imports: plain, blocking standard library, nothing
of asyncio, anyio, trio, click or rich.

The complexity is McCabe's (IEEE Transactions on Software Engineering 2(4), 1976):
one, and one more for each decision. A decision counts the same however it is
spelled, so `and` and `or` count as the nested `if` that they abbreviate (McCabe's
own rule for compound predicates), and a comprehension as its loop.

    if, elif, x if c else y, assert         1
    for, while, async for                   1
    except                                  1 for each handler
    and, or                                 1 for each operator
    for ... if ... in a comprehension       1 for the loop, 1 for each `if`
    case                                    1, 1 more for a guard and each `|`;
                                            0 for a bare `case _` or `case name`
    else, finally, with, match              0

A nested function or a method is measured on its own; a lambda or a comprehension
belongs to the function around it. What a module or class body decides belongs to
no function.
"""

from __future__ import annotations

import ast
import contextlib
import signal
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


class FunctionReport(NamedTuple):
    """One function: its dotted name in the module, first line, complexity.

    A tuple, because some 60,000 of them cross the pipes of a demo, and a dataclass
    takes four times as long to unpickle.
    """

    name: str
    line: int
    complexity: int


@dataclass(frozen=True, slots=True)
class FileReport:
    """One file: what it holds, or the `error` for which it could not be measured.

    `lines` counts lines of text, `names` each use of a name (an `ast.Name` node);
    the functions are in the order of the file.
    """

    path: str
    lines: int = 0
    names: int = 0
    functions: tuple[FunctionReport, ...] = ()
    error: str | None = None


def measure(path: str) -> FileReport:
    """Read, parse and measure the file at `path`. Never raises for what is in it."""
    try:
        source = Path(path).read_bytes()
        names, functions = _survey(_parse(source))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return FileReport(path, error=_in_one_line(error))
    return FileReport(path, len(source.splitlines()), names, functions)


def serve(connection: Connection[FileReport, str | None]) -> None:
    """Measure the files whose paths arrive, one report each, until None arrives.

    This is a worker's whole life: plain `multiprocessing` code, which does not know
    that the other end of its connection is awaited.
    """
    # A Ctrl-C reaches every process at the terminal: stopping is the coordinator's.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The coordinator may be killed: then there is no one left to report to.
    with contextlib.suppress(EOFError, ConnectionError):
        while (path := connection.recv()) is not None:
            connection.send(measure(path))


def _parse(source: bytes) -> ast.Module:
    # The compiler warns about odd literals and escapes, on the user's terminal.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)


def _in_one_line(error: Exception) -> str:
    match error:
        case SyntaxError(lineno=int(line), msg=message) if line:
            detail = f"{message} (line {line})"
        case SyntaxError(msg=message):
            detail = message
        case OSError(strerror=str(message)):
            detail = message
        case _:
            detail = str(error)
    return f"{type(error).__name__}: {detail}" if detail else type(error).__name__


_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(slots=True)
class _Scope:
    """A module, class or function whose body is being walked."""

    prefix: str = ""
    line: int = 0
    complexity: int = 1

    def enter(self, node: _Definition) -> _Scope:
        return _Scope(f"{self.prefix}{node.name}.", node.lineno)

    def report(self) -> FunctionReport:
        return FunctionReport(self.prefix[:-1], self.line, self.complexity)


def _survey(tree: ast.Module) -> tuple[int, tuple[FunctionReport, ...]]:
    """Count the uses of names, and the decisions of each function, in one walk."""
    names = 0
    functions: list[_Scope] = []
    # A stack of our own: source may nest deeper than Python would recurse.
    pending: list[tuple[ast.AST, _Scope]] = [(tree, _Scope())]
    while pending:
        node, scope = pending.pop()
        match node:
            case ast.Name():
                names += 1
                continue
            case ast.Constant() | ast.expr_context():
                continue  # Leaves, as names are: together three nodes in five.
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                scope = scope.enter(node)
                functions.append(scope)
            case ast.ClassDef():
                scope = scope.enter(node)
            case _:
                scope.complexity += _decisions(node)
        pending.extend((child, scope) for child in ast.iter_child_nodes(node))
    functions.sort(key=lambda function: function.line)
    return names, tuple(function.report() for function in functions)


def _decisions(node: ast.AST) -> int:
    """How many ways a node adds to those through its function."""
    match node:
        case (
            ast.If()
            | ast.IfExp()
            | ast.For()
            | ast.AsyncFor()
            | ast.While()
            | ast.ExceptHandler()
            | ast.Assert()
        ):
            return 1
        case ast.BoolOp(values=choices) | ast.MatchOr(patterns=choices):
            return len(choices) - 1
        case ast.comprehension(ifs=conditions):
            return 1 + len(conditions)
        case ast.match_case(pattern=ast.MatchAs(pattern=None), guard=guard):
            return int(guard is not None)
        case ast.match_case(guard=guard):
            return 1 + int(guard is not None)
        case _:
            return 0
