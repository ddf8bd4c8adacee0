"""What every subcommand shares: the options that several take, and how what a function finds or raises becomes output and an exit code.

A subcommand is a function under `@command(NAME)` whose parameters carry Typer annotations. It takes an option only if it uses it.
"""

import inspect
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol

import typer

from upheld.common.errors import BadUse, FailedWork
from upheld.common.files import write_json
from upheld.common.terminal import plain_output, visible

STORE_FOLDER = Path("store")
StoreFolder = Annotated[Path, typer.Option("--store", envvar="UPHELD_STORE", help="Folder that holds ledger, registry, runs and caches.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]

# What commands that work on scores share.
ScoreFile = Annotated[Path | None, typer.Option("--scores", help="Score table; without it the stage's own files.")]
ChampionScores = Annotated[Path | None, typer.Option(help="The champion's calibrated scores on the same rows.")]
ColumnNames = Annotated[str, typer.Option(help="Other column names and constants: score=my_col,category='x'.")]
ShowText = Annotated[bool, typer.Option("--show-text", help="Show the text of the posts that the report lists; without it, only ids.")]
Groups = Annotated[list[str], typer.Option(help="Further column to split by (a week has region and author_group), or a*b; may repeat.")]

_FULL = ("No space left on device", "Disk quota exceeded", "File too large")


class ParamOptions(NamedTuple):
    """`--params` and `--set`, which a command with a parameter of this type takes: `params.load(*asked, store)` reads what they say."""

    file: Annotated[Path, typer.Option("--params", help="YAML file with every parameter.")] = Path("params.yaml")
    overrides: Annotated[list[str], typer.Option("--set", help="key=value over the params file; may repeat.", metavar="KEY=VALUE")] = []  # noqa: RUF012  (Typer wants a list, nobody changes it)


PARAM_OPTIONS = ParamOptions()


@dataclass(frozen=True)
class Output:
    """What a command found; one that returns it takes `--json`.

    Attributes:
        content: printed with `--json`, on one line.
        shown: printed without it, or called to show it.
        failure: what could not be done nevertheless; told after it, and the exit code is 1.
        result: JSON file that gets the content, too.
    """

    content: Any
    shown: str | Callable[[], object]
    failure: str | None = None
    result: Path | None = None


class Main(Protocol):
    """The command line of a subcommand."""

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        """Run it with the arguments after its name; None takes the process's. Returns its exit code."""


def command(name: str) -> Callable[[Callable[..., Output | None]], Main]:
    """Make the command `upheld NAME` of a function: it takes the options that the function's annotations declare.

    Returns:
        a decorator that gives `main(argv)`: 0 done, 1 failed work, 2 bad use; an interrupt gives 130. Errors go to standard error as
        one line.
    """

    def decorate(function: Callable[..., Output | None]) -> Main:
        """Make the command line of one function."""

        def main(argv: Sequence[str] | None = None) -> int:
            """Run the command; returns its exit code. See `Main`."""
            app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
            app.command(name=name)(_for_typer(function))
            arguments = list(sys.argv[1:] if argv is None else argv)
            try:
                with plain_output():
                    code = typer.main.get_command(app).main(args=arguments, prog_name=f"upheld {name}", standalone_mode=False)
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
                remedy = (
                    "what was there before is kept, make room and run it again" if full else "name a place that can be read and written"
                )
                return _complain(name, f"{place or 'cannot write'}: {full or getattr(error, 'strerror', '')}; {remedy}", 1)
            except (KeyboardInterrupt, typer.Abort):
                return _complain(name, "interrupted; run the same command again to go on", 130)
            return 0

        return main

    return decorate


def _for_typer(function: Callable[..., Output | None]) -> Callable[..., None]:
    """The function as Typer reads it, with `--params` and `--set` in place of `ParamOptions`, and `--json` where it returns an `Output`."""
    declared = inspect.signature(function, eval_str=True)
    options = [option for option in declared.parameters.values() if option.annotation is not ParamOptions]
    taking = [option.name for option in declared.parameters.values() if option.annotation is ParamOptions]
    if taking:
        group = inspect.get_annotations(ParamOptions, eval_str=True)
        options += [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=group[key])
            for key, default in ParamOptions()._asdict().items()
        ]
    if declared.return_annotation is not None:
        options.append(inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=AsJson))

    def run(**values: Any) -> None:
        """Call the function, and show or print what it found.

        Raises:
            FailedWork: the function found something that could not be done.
        """
        if taking:
            values[taking[0]] = ParamOptions(values.pop("file"), values.pop("overrides"))
        as_json = values.pop("as_json", False) if declared.return_annotation is not None else False
        output = function(**values)
        if output is None:
            return
        if output.result is not None:
            write_json(output.result, output.content)
        if as_json:
            print(json.dumps(output.content))
        elif isinstance(output.shown, str):
            print(output.shown)
        else:
            output.shown()
        if output.failure:
            raise FailedWork(output.failure)

    run.__doc__ = function.__doc__
    keyword = [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in options]
    run.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
    return run


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
