"""The commit marker: the one small file that says which version of every ledger table is true."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from upheld.common import files

MARKER = "commit.json"


@dataclass(frozen=True)
class Commit:
    """What the commit marker says.

    Attributes:
        versions: table -> Lance version that readers see.
        as_of: the latest `as of` of an ingest that changed something, ISO 8601 in UTC; None before the first.
        synthetic: True if any delivery came from our generator.
        validation: how the last accepted batch fared (`feature_store/ingest/expectations.py`); empty before the first.
    """

    versions: dict[str, int]
    as_of: str | None = None
    synthetic: bool = False
    validation: dict[str, Any] = field(default_factory=dict)


def read_marker(folder: Path) -> Commit:
    """The last commit of the ledger in this folder.

    Raises:
        FileNotFoundError: there was none yet.
    """
    return Commit(**json.loads((folder / MARKER).read_text(encoding="utf-8")))


def write_marker(folder: Path, commit: Commit) -> None:
    """Make a commit the last one, whole or not at all."""
    files.write_json(folder / MARKER, asdict(commit))
