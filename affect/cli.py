"""The `affectgan` command: finds its subcommands through entry points, so this package imports none
of the others.
"""

import sys
from importlib.metadata import EntryPoint, entry_points

import click

from affect import __version__

GROUP = "affectgan.commands"
ORDER = (
    "data",
    "train",
    "runs",
    "judge",
    "evaluate",
    "audit",
    "align",
    "misalignment",
    "archive",
    "serve",
    "models",
    "demo",
    "predict",
    "generate",
    "explain",
)
EXTRA = {"training": "training", "service": "serving"}


class _Commands(click.Group):
    """Imports a command's module only when that command is asked for: --help stays quick, the
    gateway stays light.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        found = _found()
        return [name for name in ORDER if name in found] + sorted(set(found) - set(ORDER))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        point = _found().get(cmd_name)
        if point is None:
            return None
        try:
            command = point.load()
        except ModuleNotFoundError as error:
            extra = EXTRA.get(point.module.split(".")[0], "dev")
            raise click.ClickException(
                f"{cmd_name} needs the package {error.name}: pip install 'affectgan[{extra}]'"
            ) from error
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = []
        for name in self.list_commands(ctx):
            try:
                command = self.get_command(ctx, name)
                rows.append((name, command.get_short_help_str(limit=90) if command else ""))
            except click.ClickException as error:
                rows.append((name, f"({error.message})"))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _found() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="affectgan")
def cli() -> None:
    """Read faces, draw faces, and explain readings with one categorical GAN."""


def main() -> None:
    """Run the command line; a ValueError is the user's to mend, so it is said in a line and ends
    with status 2.
    """
    try:
        cli(standalone_mode=False)
    except click.exceptions.Exit as leave:
        sys.exit(leave.exit_code)
    except click.Abort:
        click.echo("Aborted.", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except ValueError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
