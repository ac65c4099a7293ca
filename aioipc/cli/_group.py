"""The subcommands, each loaded when called for, and what their endings mean."""

from __future__ import annotations

import importlib
from typing import cast

import click
import rich as rich  # noqa: PLC0414 - so that its absence is noticed here

from aioipc import __version__

_HOMES = {"demo": "aioipc.cli.demo"}


class _LazyGroup(click.Group):
    """A group that imports the module of a command when it is asked for it."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_HOMES)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002
        cmd_name: str,
    ) -> click.Command | None:
        if cmd_name not in _HOMES:
            return None
        module = importlib.import_module(_HOMES[cmd_name])
        return cast("click.Command", getattr(module, cmd_name))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="aioipc")
def commands() -> None:
    """Await multiprocessing: pipes, queues and processes as async streams."""


def run() -> int:
    """Run the command line and return its exit status.

    :raises KeyboardInterrupt: after a Ctrl-C, where click would say "Aborted!" and
        exit with 1.
    """
    try:
        return commands.main(standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
