"""Bars for work that is counted in posts, on standard error; plain lines where that is no terminal."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from upheld.common import progress

Report = Callable[[int], None]  # is told how many posts have been done since its last call


def silent(num_posts: int) -> None:
    """A report that nobody reads."""


def bars() -> AbstractContextManager[Progress]:
    """An empty set of bars; enter it to show them."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return progress.shown(*columns, unit="done")


def reporter(shown: Progress, name: str, total: int | None) -> Report:
    """Add a bar named `name` for `total` posts (None: not known) and give the function that moves it."""
    task = shown.add_task(name, total=total)
    return lambda num_posts: shown.advance(task, num_posts)
