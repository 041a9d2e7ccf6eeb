"""The command `eventide`, assembled from the command group of each package.

The groups are discovered by entry point, so this module imports nothing above it.
"""

import errno
import sys
import traceback
from functools import cache
from importlib.metadata import entry_points
from io import TextIOWrapper
from types import TracebackType

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError
from rich.console import Console

from infra import discovery
from infra.errors import EventideError
from infra.logging import configure_logging
from infra.masking import masked

ENTRY_POINTS = "eventide.commands"


def main() -> None:
    """Run the command line. An error of ours is one sentence and its exit code, no traceback."""
    sys.excepthook = _print_masked
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show ends nothing
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # What a command prints is read by others. A process that runs on sets its own.
    configure_logging(json=False, final=False)
    try:
        build_app()()
    except EventideError as error:
        _print_error(str(error), error.hint)
        sys.exit(error.exit_code)
    except (ValidationError, SettingsError) as error:
        _print_error(f"a setting is invalid: {error}", "`eventide settings` lists them all")
        sys.exit(1)
    except OSError as error:
        if error.filename is None or error.errno not in _OF_THE_MACHINE:
            raise
        _print_error(f"{error.filename}: {error.strerror}", None)
        sys.exit(1)
    finally:
        for refused in discovery.met:
            _print_warning(f"{refused.name} is not used: {refused.mistake}", "`eventide check`")


@cache  # finding the entry points reads about every installed package
def build_app() -> typer.Typer:
    """One flat list of commands; a package may also bring groups (`eventide features ...`)."""
    app = typer.Typer(
        name="eventide",
        help="An event-driven MLOps pipeline: events in, predictions out.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda e: _ORDER.index(e.name)):
        app.add_typer(entry.load())
    return app


_ORDER = ("infra", "features", "ml", "serving")


_OF_THE_MACHINE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}
"""What a user can repair: rights, and room on a disk."""


def _print_masked(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """A traceback as usual, but without passwords."""
    sys.stderr.write(masked("".join(traceback.format_exception(kind, error, trace))))


def _print_error(message: str, hint: str | None) -> None:
    _print(message, hint, kind="error", style="bold red")


def _print_warning(message: str, hint: str) -> None:
    _print(message, hint, kind="warning", style="bold yellow")


def _print(message: str, hint: str | None, *, kind: str, style: str) -> None:
    console = Console(stderr=True, highlight=False)
    console.print(f"{kind}:", style=style, end=" ")
    # Not wrapped: a path or an address that is broken over two lines cannot be copied.
    console.print(masked(message), markup=False, soft_wrap=True)
    if hint:
        console.print(f"  {hint}", markup=False, soft_wrap=True)
