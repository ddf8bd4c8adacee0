"""What reaches a terminal: text of strangers moves no cursor, sets no title, hides nothing and begins no line.

File names, column names, languages and decoders' messages come from people who must not be able to give commands to the terminal of whoever
reads them.
"""

import sys
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

# Unicode's categories: control, format (text direction among them), surrogate, and both separators of lines.
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def visible(text: str, keep: str = "") -> str:
    """The text with characters that a terminal acts on written as escapes such as `\\u001b`.

    Args:
        text: any text.
        keep: characters that stay; none by default, so that a message of one line stays one.
    """
    if text.isprintable():
        return text
    parts = []
    for char in text:
        seen = char in keep or unicodedata.category(char) not in _UNSEEN
        parts.append(char if seen else f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}")
    return "".join(parts)


class Screen(Console):
    """Rich's console, whose own colours and cursor moves are the only ones that get through.

    Args:
        stderr: standard error instead of standard output.
        options: further ones of `rich.console.Console`.
    """

    def __init__(self, stderr: bool, **options: Any) -> None:
        super().__init__(stderr=stderr, file=None if stderr or not isinstance(sys.stdout, _Plain) else sys.stdout.inner, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As Rich renders it, the text of every part made visible."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text, "\n"), segment.style)


def console(stderr: bool = True, **options: Any) -> Screen:
    """Console for progress and messages: standard error, so that standard output holds results alone, which take stderr=False."""
    return Screen(stderr, **options)


class _Plain:
    """Standard output for `print`, which has no colours of its own."""

    def __init__(self, inner: TextIO) -> None:
        self.inner = inner

    def write(self, text: str) -> int:
        """Write the text made visible."""
        self.inner.write(visible(text, "\n\t"))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@contextmanager
def plain_output() -> Iterator[None]:
    """While it lasts, nothing that is printed to standard output acts on the terminal; a `Screen` is not held back."""
    with redirect_stdout(sys.stdout if isinstance(sys.stdout, _Plain) else cast(TextIO, _Plain(sys.stdout))):
        yield
