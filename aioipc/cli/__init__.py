"""The command line, `aioipc`: its front door, which imports nothing heavy.

The workers of `aioipc demo` import this package on their way to their module, so click,
rich and the subcommands are imported only when they are called for.
"""

from __future__ import annotations

import signal
import sys

__all__ = ["main"]

_INTERRUPTED = 130
"""What a shell makes of a death by SIGINT: 128 + 2."""


def main() -> None:
    """Run the command that `sys.argv` names, and exit with its status.

    Bad usage is status 2, with the reason on stderr. After a Ctrl-C the status is 130,
    and nothing is said.
    """
    try:
        sys.exit(_run())
    except KeyboardInterrupt:
        # A second one could only disturb what is left to tidy up.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.exit(_INTERRUPTED)


def _run() -> int:
    try:
        from aioipc.cli._group import run  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name not in {"click", "rich"}:
            raise
        print("aioipc's command line needs: pip install 'aioipc[cli]'", file=sys.stderr)
        return 2
    return run()
