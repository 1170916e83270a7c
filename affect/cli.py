"""The `affectgan` command: finds its subcommands through entry points, so this package imports none
of the others.
"""

import os
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from affect.version import __version__

GROUP = "affectgan.commands"
SAFE_PATH = "PYTHONSAFEPATH"  # Python's own: the working folder is no place to import from
# Package of a command's module -> heading of its commands in the help, extra that it needs.
SECTIONS = {
    "service": ("Use a model", "serving"),
    "scoring": ("Score pictures and video", "local"),
    "training": ("Make a model", "training"),
}
OTHER = ("More", "dev")


class _Commands(click.Group):
    """Imports a command's module only when that command is asked for: --help stays quick, the
    gateway stays light.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_entry_points())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        point = _entry_points().get(cmd_name)
        if point is None:
            return None
        try:
            command = point.load()
        except ModuleNotFoundError as error:
            raise _missing(point, error) from error
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Commands import what is heavy when they run: a missing package is named then too."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            point = _entry_points().get(str(ctx.invoked_subcommand))
            if point is None:
                raise
            raise _missing(point, error) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows: dict[str, list[tuple[str, str]]] = {heading: [] for heading, _ in SECTIONS.values()}
        for name, point in sorted(_entry_points().items()):
            heading, _ = _section(point)
            rows.setdefault(heading, []).append((name, self._help(ctx, name)))
        for heading, commands in rows.items():
            if commands:
                with formatter.section(heading):
                    formatter.write_dl(commands)

    def _help(self, ctx: click.Context, name: str) -> str:
        """A command in a line, or which package is missing for it."""
        try:
            command = self.get_command(ctx, name)
        except click.ClickException as error:
            return f"({error.message})"
        return command.get_short_help_str(limit=90) if command else ""


def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _missing(point: EntryPoint, error: ModuleNotFoundError) -> click.ClickException:
    _, extra = _section(point)
    return click.ClickException(
        f"{point.name} needs the package {error.name}: pip install 'affectgan[{extra}]'"
    )


def _section(point: EntryPoint) -> tuple[str, str]:
    return SECTIONS.get(point.module.partition(".")[0], OTHER)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="affectgan")
def cli() -> None:
    """Read faces, draw faces, and explain readings with one categorical GAN."""


def command(arguments: Sequence[str]) -> list[str]:
    """What runs `affectgan` with these arguments as a program of its own.

    -P: it never imports what lies in the working folder, which may hold any random.py.
    """
    return [sys.executable, "-P", "-m", "affect.cli", *arguments]


def main() -> None:
    """Run the command line; a ValueError and what the system refuses (OSError) are the user's to
    mend, so they are reported in one line and end with status 2.
    """
    os.environ.setdefault(SAFE_PATH, "1")  # inherited by every Python process that this one starts
    try:
        # click hands an Exit's status back as if it were the command's value.
        sys.exit(cli(standalone_mode=False) or 0)
    except click.exceptions.Exit as leave:
        sys.exit(leave.exit_code)
    except click.Abort:
        click.echo("Aborted.", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of the output closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        file_name = f"{error.filename}: " if error.filename else ""
        click.echo(f"Error: {file_name}{error.strerror or error}", err=True)
        sys.exit(2)
    except ValueError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
