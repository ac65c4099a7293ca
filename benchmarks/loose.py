"""Figures that stand in a document as they were typed: soon they are not true.

What was measured comes from the results, by a block. Left are numbers that somebody
chose, as limits, sizes of messages and timeouts; and one section that says of itself
where it has its figures from.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

EXPERIMENTS = "\n## Single experiments\n"
"""The last section of a document, of what a suite can't repeat: profiles."""

CHOSEN = {
    "README.md": {
        "100 MB",  # an array that is measured
    },
    "bridge.md": {
        *("50 ms", "200 ms"),  # slices in which threads wait
        *("1 s", "5 s"),  # for a handshake, and for a manager's end
    },
    "broker.md": {
        *("5 s", "30 s"),  # for a handshake, and for a first connection
        "10 ms",  # after which what lies with a busy worker is offered to others
    },
    "design.md": {
        *("64 KB", "256 KB", "1 MB"),  # from which size on something is done
        *("0.1 ms", "0.2 ms"),  # how long is looked for an answer
        "50 ms",  # slices in which a thread waits
    },
    "performance.md": {
        *("100 MB", "200 MB"),  # arrays and lists that are measured
    },
    "pool.md": {
        *("64 KB", "1 MB"),  # from which size on something is done
        "1 GB",  # an example
        *("2 ms", "4 ms"),  # of work in a batch, and in a chunk
        *("4 MB", "16 MB"),  # in a chunk, and read ahead for each worker
        "0.1 ms",  # how long is looked for a task
    },
}

FIGURE = re.compile(
    r"(?<![\w.,])(?:\d[\d,.]* ?(?:µs|us|ms|s|KB|MB|GB|x|times|%)"
    r"|(?:two|three|four|five|six|seven|eight|nine|ten|twelve|thirty) times)(?!\w)"
)
BLOCK = re.compile(r"<!-- figures: .*?<!-- /figures -->", re.DOTALL)


def loose(name: str, text: str) -> Iterator[str]:
    """Each number with a unit that neither a block has nor somebody chose."""
    typed = BLOCK.sub("", text.partition(EXPERIMENTS)[0])
    for figure in FIGURE.findall(typed):
        if figure not in CHOSEN.get(name, ()):
            yield figure
