"""Lift a freeze: resume automatic removal of a category."""

import sys
from collections.abc import Sequence

from registry import freeze


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of `upheld unfreeze`. Returns the exit code."""
    return freeze.command("unfreeze", argv)


if __name__ == "__main__":
    sys.exit(main())
