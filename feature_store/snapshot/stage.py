"""Stage `snapshot`: what training and evaluation read, as the pinned ledger knew it.

usage: python -m upheld.feature_store.snapshot.stage     in a workspace that holds data/inputs.json
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer

from upheld.common.command import PARAM_OPTIONS, STORE_FOLDER, Output, ParamOptions, StoreFolder, command
from upheld.common.errors import BadUse
from upheld.common.files import replacing_folder, write_json
from upheld.common.params import params as parameters
from upheld.common.terminal import console
from upheld.feature_store.contracts import hashing
from upheld.feature_store.contracts.snapshot import (
    EXAMPLES_FILE,
    MANIFEST_FILE,
    MEMBERSHIP,
    MEMBERSHIP_FILE,
    POSTS_FILE,
    SERVED_FILE,
    UNREVIEWED_FILE,
)
from upheld.feature_store.contracts.tables import SPLITS
from upheld.feature_store.contracts.workspace import FEATURES, INPUTS, SNAPSHOT, LogoPins, read_inputs
from upheld.feature_store.features.table import PinnedFeatures
from upheld.feature_store.ledger.ledger import Ledger
from upheld.feature_store.ledger.verdicts import ITEM, weighed, without_held
from upheld.feature_store.snapshot.served import DECIDED, first_decisions
from upheld.feature_store.snapshot.tables import compose

ABOUT = ["post_id", "created_at", "language", "author_id", "context_id", "recorded_at"]
# What posts are enriched with, vectors that heads are fitted on, and what tells copies; new rows of other features retrain nothing.
READ_BY_MODELS = (
    "keyframes",
    "language",
    "ocr",
    "spectrogram",
    "transcript",
    "text_embedding",
    "image_embedding",
    "image_hash",
    "audio_fingerprint",
)
CONTENT = ["post_id", "created_at", "language", "region", "text", "hashtags", "media", "context_id", "author_id", "author_group"]


def run(params: parameters.Params, inputs: Path, store: Path, out: Path, features: Path) -> dict[str, Any]:
    """Write a snapshot: the tables of `upheld.feature_store.contracts.snapshot` and manifest.json; and what the report says of features.

    Args:
        params: sections labels, splits, snapshot; policies; seed.
        inputs: data/inputs.json; says which version of each table of ledger and features is meant, and as of when.
        store: folder with the ledger, the features and the champion's bundle.
        out: folder to write, whole or not at all.
        features: JSON to write: coverage and drift of the features, per language.

    Returns:
        the manifest. The same ledger content, champion and params give the same bytes.

    Raises:
        BadUse: `inputs` is missing or malformed, or names a table version that the ledger does not have.
        FailedWork: no outcomes as of that time, or a split without labelled posts.
    """
    pinned = read_inputs(inputs)
    ledger = Ledger(store)
    membership: pd.DataFrame = MEMBERSHIP.empty_table().to_pandas()  # what the champion's line has learned from: post_id, split
    if pinned.champion is not None:
        path = store / "bundles" / pinned.champion.digest / MEMBERSHIP_FILE
        try:
            membership = pq.read_table(path, schema=MEMBERSHIP).to_pandas()
        except (OSError, pa.ArrowInvalid) as error:
            raise BadUse(f"{path}: not readable ({error}); `python -m upheld.registry.runs.pin` exports the champion's bundle") from error
    every: pd.DataFrame = ledger.read("review_outcomes", version=pinned.tables.review_outcomes).to_pandas()
    outcomes = without_held(every, pinned.held)
    draws: pd.DataFrame = ledger.read("audit_draws", ["draw_id", *ITEM], version=pinned.tables.audit_draws).to_pandas()
    about: pd.DataFrame = ledger.read("posts", ABOUT, version=pinned.tables.posts).to_pandas()

    def contents_of(post_ids: "pd.Series[str]") -> pd.DataFrame:
        wanted = pa.array(post_ids, pa.string())
        batches = ledger.scan("posts", CONTENT, version=pinned.tables.posts)
        rows: pd.DataFrame = pa.Table.from_batches([batch.filter(pc.is_in(batch["post_id"], wanted)) for batch in batches]).to_pandas()
        return rows

    def decisions_of(post_ids: "pd.Series[str]") -> pd.DataFrame:
        return first_decisions(ledger.scan("decisions", DECIDED, version=pinned.tables.decisions), post_ids, as_of)

    as_of = pd.Timestamp(pinned.as_of)
    known = PinnedFeatures(pinned.location(store), pinned.features)
    tables = compose(weighed(outcomes, draws), about, contents_of, decisions_of, membership, as_of, params, known)
    stated = pinned.model_dump(mode="json", exclude=set(LogoPins.model_fields))  # new logo data retrains no text
    stated["features"] = {name: table for name, table in stated["features"].items() if name in READ_BY_MODELS}
    learned_from = (tables.examples, tables.posts, tables.unreviewed, tables.served)
    manifest = tables.account | stated | {"digest": hashing.of_json([table.to_pylist() for table in learned_from])}
    files = (EXAMPLES_FILE, POSTS_FILE, UNREVIEWED_FILE, SERVED_FILE, MEMBERSHIP_FILE)
    with replacing_folder(out) as folder:
        for name, table in zip(files, (*learned_from, tables.membership), strict=True):
            pq.write_table(table, folder / name, compression="zstd")
        write_json(folder / MANIFEST_FILE, manifest)
    write_json(features, tables.features)
    return manifest


def _summary(manifest: dict[str, Any]) -> str:
    """One screen: posts per split, examples per category, what was left out."""
    posts, excluded = manifest["posts"], manifest["excluded"]
    lines = [f"snapshot {manifest['digest'][:12]} as of {manifest['as_of']}" + (" (synthetic)" if manifest["synthetic"] else "")]
    lines += [f"{'':24}" + "".join(f"{split:>9}" for split in SPLITS)]
    for kind in ("labelled", "frame"):
        lines.append(f"{kind + ' posts':24}" + "".join(f"{posts[kind].get(split, 0):>9}" for split in SPLITS))
    for category in sorted({name for split in SPLITS for name in manifest["counts"][split]}):
        line = f"{category:24}"
        for split in SPLITS:
            cells = manifest["counts"][split].get(category, {}).values()
            violations, others = (sum(cell[label] for cell in cells) for label in ("1", "0"))
            line += f"{violations}/{violations + others}".rjust(9)
        lines.append(line)
    lines.append("(violations/known labels of each category)")
    lines.append(f"{manifest['unreviewed']['used']} posts that nobody reviewed teach by the score that they got in production")
    left_out = [f"{kind} {reason} {n}" for kind in ("labelled", "frame") for reason, n in sorted(excluded[kind].items())]
    return "\n".join([*lines, "left out: " + (", ".join(left_out) or "none")])


@command("snapshot")
def main(
    inputs: Annotated[Path, typer.Option(help="JSON that `python -m upheld.registry.runs.pin` wrote.")] = INPUTS,
    out: Annotated[Path, typer.Option(help="Folder to write.")] = SNAPSHOT,
    features: Annotated[Path | None, typer.Option(help="JSON to write: coverage and drift [features.json beside --out].")] = None,
    asked: ParamOptions = PARAM_OPTIONS,
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """Draw the snapshot that a retrain learns from."""
    with console().status("snapshot: labels, groups and splits of what the ledger holds"):
        manifest = run(parameters.load(*asked), inputs, store, out, features or out.parent / FEATURES.name)
    return Output(manifest, _summary(manifest))


if __name__ == "__main__":
    sys.exit(main())
