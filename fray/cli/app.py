"""The commands put together, and what becomes of their errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any, cast

import typer

from fray.cli import actors, jobs, reservations, sched, tasks, tokens, users
from fray.cli.bugreport import bug_report
from fray.cli.errors import FAILED, USAGE, Failure, exit_code_of, one_line
from fray.cli.hosts import drain, port_forward, undrain
from fray.cli.output import OutputClosed, print_error, print_table
from fray.cli.run import RunCommand, run
from fray.cli.status import status
from fray.cli.tasks import stack
from fray.cli.top import top
from fray.cli.up import down, up, worker
from fray.version import __version__
from fray_start import INTERRUPTED, loud_interrupts

PIPE_CLOSED = 141
"""As a shell reports a process that SIGPIPE ended."""

# Usage errors are classes of click, which typer brings along under changing names.
_CLICK_ERROR = cast("type[Exception]", typer.BadParameter.__mro__[2])

app = typer.Typer(
    name="fray",
    help="Actors and jobs on a cluster, or on this machine.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fray {__version__}")
        raise typer.Exit


def _help_if_alone(ctx: typer.Context) -> None:
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", callback=_print_version, is_eager=True, help="Show the version."
        ),
    ] = False,
) -> None:
    _help_if_alone(ctx)


app.command(
    cls=RunCommand,
    context_settings={"allow_interspersed_args": False},
)(run)
app.command()(up)
app.command()(down)
app.command()(status)
app.command()(worker)
app.command()(tokens.audit)
app.command()(drain)
app.command()(undrain)
app.command()(top)
app.command()(stack)
app.command("port-forward")(port_forward)
app.command("bug-report")(bug_report)
for _name, _group in (
    ("job", jobs.app),
    ("task", tasks.app),
    ("actor", actors.app),
    ("token", tokens.app),
    ("reservation", reservations.app),
    ("user", users.app),
    ("sched", sched.app),
):
    _group.callback(invoke_without_command=True)(_help_if_alone)
    app.add_typer(_group, name=_name)


def execute(arguments: Sequence[str]) -> int:
    """Runs a command line.

    Args:
        arguments: Without the program's name.

    Returns:
        The exit code. Errors were told on stderr.

    Raises:
        SystemExit: For a shell that asks for completions.
        BaseException: With ``FRAY_DEBUG=1`` what went wrong.
    """
    command = typer.main.get_command(app)
    try:
        loud_interrupts()
        result: Any = command.main(list(arguments), prog_name="fray", standalone_mode=False)
    except OutputClosed:
        _silence_stdout()
        return PIPE_CLOSED
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except _CLICK_ERROR as exc:
        print_error(_usage_error(exc))
        return USAGE
    except Exception as exc:
        if os.environ.get("FRAY_DEBUG") == "1":
            raise
        print_error(one_line(exc))
        if isinstance(exc, Failure) and exc.choices is not None:
            print_table(exc.choices, on_stderr=True)
        return exit_code_of(exc)
    return result if isinstance(result, int) else 0


def _usage_error(exc: Exception) -> str:
    """A usage error with what to do next."""
    told: Any = exc
    message = " ".join(str(told.format_message()).split())
    context = getattr(exc, "ctx", None)
    path = context.command_path if context is not None else "fray"
    return f"{message.rstrip('.')} (see `{path} --help`)"


def _silence_stdout() -> None:
    """What is left in the buffer goes nowhere, instead of failing once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


__all__ = ["FAILED", "app", "execute"]
