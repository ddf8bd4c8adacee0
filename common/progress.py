"""How far a long job is: bars on a terminal; in a pipe or a log, where bars cannot be seen, a plain line every few seconds."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from rich import progress
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from upheld.common.terminal import console

EVERY_S = 10.0
Item = TypeVar("Item")
Report = Callable[[int], None]  # is told how many posts have been done since its last call


@contextmanager
def shown(*columns: str | ProgressColumn, unit: str, transient: bool = False) -> Iterator[Progress]:
    """Yield an empty set of bars on standard error, for work that is counted.

    Args:
        columns: of the bars.
        unit: what is counted, in the plural.
        transient: whether the bars go away at the end.
    """
    out = console()
    with Progress(*columns, console=out, disable=not out.is_terminal, transient=transient) as bars:
        if out.is_terminal:
            yield bars
            return
        ended = threading.Event()
        printer = threading.Thread(target=_print_lines, args=(bars, unit, out, ended), daemon=True)
        printer.start()
        try:
            yield bars
        finally:
            ended.set()
            printer.join()


def _print_lines(bars: Progress, unit: str, out: Console, ended: threading.Event) -> None:
    """Print what is under way, also while nothing moves: then it is the time that shows that somebody is at work."""
    while not ended.wait(EVERY_S):
        for task in bars.tasks:
            if not task.finished:
                of_all = "" if task.total is None else f" of {task.total:,.0f}"
                minutes, seconds = divmod(int(task.elapsed or 0), 60)
                line = f"{task.description}: {task.completed:,.0f}{of_all} {unit} after {minutes}:{seconds:02d} min"
                out.print(line, markup=False, highlight=False, soft_wrap=True)


def track(items: Iterable[Item], what: str, total: int | None = None) -> Iterable[Item]:
    """The items, with a bar on a terminal that goes away at the end.

    Args:
        items: taken one by one.
        what: they are, in the plural.
        total: how many; None where it is not known, or `items` has a length.
    """
    return progress.track(items, what, total, console=console(), transient=True)


def silent(num_posts: int) -> None:
    """A report that nobody reads."""


def bars() -> AbstractContextManager[Progress]:
    """An empty set of bars; enter it to show them."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return shown(*columns, unit="done")


def reporter(shown: Progress, name: str, total: int | None) -> Report:
    """Add a bar named `name` for `total` posts (None: not known) and give the function that moves it."""
    task = shown.add_task(name, total=total)
    return lambda num_posts: shown.advance(task, num_posts)
