"""The folder that the stage `snapshot` writes: its files, the columns of its tables, and how training and evaluation read them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa

from upheld.common.errors import FailedWork
from upheld.feature_store.contracts.tables import TIMESTAMP
from upheld.feature_store.contracts.workspace import FeaturePins

EXAMPLES_FILE: Final = "examples.parquet"  # EXAMPLES: one row a post and category
POSTS_FILE: Final = "posts.parquet"  # POSTS: one row a post
UNREVIEWED_FILE: Final = "unreviewed.parquet"  # POSTS, all of split train: posts that nobody reviewed and the model that served scored
SERVED_FILE: Final = "served.parquet"  # SERVED: one row a post and category that a model in production decided on
MEMBERSHIP_FILE: Final = "membership.parquet"  # MEMBERSHIP: the posts that the model line has learned from
MANIFEST_FILE: Final = "manifest.json"  # digest, pins, synthetic, and the account of what went where

EXAMPLES: Final = pa.schema(
    [
        ("post_id", pa.string()),
        ("category", pa.string()),
        ("label", pa.float32()),
        ("hard_label", pa.int8()),
        ("weight", pa.float32()),
        ("inclusion_prob", pa.float64()),
        ("zone", pa.string()),
        ("evidence", pa.string()),
        ("num_reviewers", pa.int32()),
        ("split", pa.string()),
        ("labelled_at", TIMESTAMP),
    ]
)
POSTS: Final = pa.schema(
    [
        ("post_id", pa.string()),
        ("created_at", TIMESTAMP),
        ("period", pa.string()),
        ("language", pa.string()),
        ("region", pa.string()),
        ("author_group", pa.string()),
        ("context_id", pa.string()),
        ("text", pa.string()),
        ("image_digests", pa.list_(pa.string())),
        ("num_frames", pa.int32()),
        ("video_digests", pa.list_(pa.string())),
        ("audio_digests", pa.list_(pa.string())),
        ("num_hashtags", pa.int32()),
        ("has_link", pa.bool_()),
        ("prior_removals", pa.int32()),
        ("context_excess", pa.map_(pa.string(), pa.float64())),
        ("split", pa.string()),
        ("group_id", pa.string()),
    ]
)
# What served decided first of a post and category: before its review, and before a later model could have learned from that.
SERVED: Final = pa.schema(
    [("post_id", pa.string()), ("category", pa.string()), ("score", pa.float64()), ("action", pa.string()), ("model_version", pa.string())]
)
MEMBERSHIP: Final = pa.schema([("post_id", pa.string()), ("split", pa.string())])

_TABLES = {POSTS_FILE: POSTS, EXAMPLES_FILE: EXAMPLES, UNREVIEWED_FILE: POSTS, SERVED_FILE: SERVED}


@dataclass(frozen=True)
class Snapshot:
    """The tables of a snapshot that models learn from, and its manifest.

    `posts` and `unreviewed` have the columns of POSTS, `examples` of EXAMPLES, `served` of SERVED: of the posts of both tables.
    """

    posts: pd.DataFrame
    examples: pd.DataFrame
    unreviewed: pd.DataFrame
    served: pd.DataFrame
    manifest: dict[str, Any]


def read_snapshot(folder: Path) -> Snapshot:
    """Read a snapshot.

    Raises:
        FailedWork: a file is missing or unreadable, or a table lacks a column.
    """
    found = []
    for name, schema in _TABLES.items():
        try:
            table = pd.read_parquet(folder / name)
        except (OSError, ValueError) as error:
            raise FailedWork(f"{folder}: not a readable snapshot ({error}); run the stage snapshot again") from error
        if missing := [column for column in schema.names if column not in table]:
            raise FailedWork(f"{folder / name}: no column {missing[0]!r}; expected {', '.join(schema.names)}; run the stage snapshot again")
        found.append(table)
    posts, examples, unreviewed, served = found
    return Snapshot(posts, examples, unreviewed, served, read_manifest(folder))


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a snapshot.

    Raises:
        FailedWork: the file is missing or is not JSON.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FailedWork(f"{folder}: not a readable snapshot ({error}); run the stage snapshot again") from error
    return manifest


def pins_of(manifest: Mapping[str, Any]) -> FeaturePins:
    """What of the feature store a snapshot was made from."""
    return FeaturePins.model_validate(manifest, extra="ignore")
