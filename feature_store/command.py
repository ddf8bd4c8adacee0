"""What every subcommand shares: the common options, and how an exception becomes an exit code."""

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from feature_store.errors import BadUse, FailedWork
from feature_store.terminal import Screen, plain_output, visible

ParamsFile = Annotated[Path, typer.Option("--params", help="YAML file with every parameter.")]
Overrides = Annotated[list[str], typer.Option("--set", help="key=value over the params file; may repeat.", metavar="KEY=VALUE")]
StoreFolder = Annotated[Path, typer.Option("--store", envvar="UPHELD_STORE", help="Folder that holds ledger, registry, runs and caches.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]

_FULL = ("No space left on device", "Disk quota exceeded", "File too large")

PARAMS_FILE = Path("params.yaml")
STORE_FOLDER = Path("store")


def console(stderr: bool = True, **options: Any) -> Screen:
    """Console for progress and messages: standard error, so that standard output holds results alone, which take stderr=False."""
    return Screen(stderr, **options)


def execute(function: Callable[..., Any], name: str, argv: Sequence[str] | None) -> int:
    """Run `function` as the command `upheld NAME` with the options that its annotations declare.

    Args:
        function: a function whose parameters carry Typer annotations.
        name: subcommand name shown in help and errors.
        argv: arguments after the subcommand's name; None takes them from the process.

    Returns:
        0 done, 1 failed work, 2 bad use; an interrupt gives 130. Errors go to standard error as one line.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(name=name)(function)
    command = typer.main.get_command(app)
    try:
        with plain_output():
            code = command.main(args=list(sys.argv[1:] if argv is None else argv), prog_name=f"upheld {name}", standalone_mode=False)
        if code == 130:  # Typer returns what it made of Ctrl-C
            raise KeyboardInterrupt
    except typer.exceptions.TyperException as error:
        return _complain(name, getattr(error, "format_message", error.__str__)(), 2)
    except BadUse as error:
        return _complain(name, str(error), 2)
    except FailedWork as error:
        return _complain(name, str(error), 1)
    except (OSError, RuntimeError) as error:  # Lance tells of a full disk with the latter
        full = next((reason for reason in _FULL if reason in str(error)), None)
        place = getattr(error, "filename", None)
        if place is None and full is None:
            raise
        remedy = "what was there before is kept, make room and run it again" if full else "name a place that can be read and written"
        return _complain(name, f"{place or 'cannot write'}: {full or getattr(error, 'strerror', '')}; {remedy}", 1)
    except (KeyboardInterrupt, typer.Abort):
        return _complain(name, "interrupted; run the same command again to go on", 130)
    return 0


def parse_time(text: str, option: str) -> datetime:
    """An ISO 8601 time with a zone, in UTC.

    Raises:
        BadUse: it is none, or has no zone.
    """
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise BadUse(f"{option} {text!r}: has no time zone; write 2026-11-02T00:00:00Z for UTC")
        return moment.astimezone(UTC)
    except BadUse:
        raise
    except (ValueError, OverflowError) as error:  # the latter where it leaves the years 1 to 9999
        raise BadUse(f"{option} {text!r}: expected an ISO 8601 time such as 2026-11-02T00:00:00Z") from error


def _complain(name: str, message: str, code: int) -> int:
    print(visible(f"upheld {name}: {' '.join(message.split())}"), file=sys.stderr)
    return code
