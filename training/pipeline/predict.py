"""Stage `predict`: stage-1 probabilities of the posts that no classifier was trained on, and scores of the champion, or of what served.

usage: python -m upheld.training.pipeline.predict     in a workspace with data/inputs.json, data/snapshot, the models and the detections
"""

import functools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from upheld.common import progress
from upheld.common.command import PARAM_OPTIONS, STORE_FOLDER, Output, ParamOptions, StoreFolder, command
from upheld.common.errors import FailedWork
from upheld.common.files import replacing
from upheld.common.params import params as parameters
from upheld.common.terminal import console
from upheld.feature_store.backbones.vectors import text_version
from upheld.feature_store.contracts import hashing
from upheld.feature_store.contracts import workspace as paths
from upheld.feature_store.contracts.snapshot import Snapshot, read_snapshot
from upheld.feature_store.contracts.workspace import Inputs, read_inputs
from upheld.feature_store.features import media as contents
from upheld.feature_store.features.media import whole
from upheld.feature_store.features.table import PinnedFeatures
from upheld.training.fusion import incumbent
from upheld.training.fusion.stage import SCORE_SCHEMA, score_table
from upheld.training.logos import scan
from upheld.training.loop.head import NONE_KNOWN
from upheld.training.pipeline import bundle as pipeline
from upheld.training.pipeline import stage1
from upheld.training.text.model import TextModel, has_own_vectors

UNSEEN = ("fusion", "calib", "test")  # the splits that stage 1 was not trained on


@dataclass(frozen=True)
class Result:
    """Posts that stage 1 has scored, and rows of the model that the new one is compared with."""

    num_posts: int
    num_comparator_scores: int


def run(params: parameters.Params, store: Path, workspace: Path, stage1_out: Path, champion_out: Path) -> Result:
    """Apply stage 1, and the champion as a whole, to posts that they have not learned from.

    Args:
        params: `predict` and `policies` are read.
        store: folder with the ledger's media, the features and the champion's bundle.
        workspace: folder with inputs.json (which names the ledger's versions and the champion), the snapshot, the models of text, image and
            audio, the logo scan, and logo.json of the logo evaluation (which says from which confidence on a detection counts).
        stage1_out: table to write: post_id, split, for text, image and audio has_{modality} and prob_{modality}_{policy}, and
            the columns of `stage1.logo_signals`.
        champion_out: table to write: the champion's calibrated scores of the test posts, or where there is no champion the scores by
            which decisions on them were made, in the scores contract with a column model_version.

    Raises:
        BadUse: inputs.json is missing or malformed.
        FailedWork: a model or the champion's bundle cannot be loaded, or a picture or sound of the snapshot has left the store.
    """
    pinned = read_inputs(workspace / paths.INPUTS)
    data = read_snapshot(workspace / paths.SNAPSHOT)
    posts = data.posts[data.posts["split"].isin(UNSEEN)].sort_values("post_id", ignore_index=True)
    test = posts[posts["split"] == "test"]
    media = media_of(store, posts, pinned)
    champion = load_champion(store, pinned)
    scanned = scan.read(workspace / paths.LOGO_SCAN)
    threshold = stage1.read_logo_threshold(workspace / paths.LOGO_CERTIFICATE) if scanned.brands else None
    logos = stage1.logo_signals(posts, scanned.detections, scanned.sizes, scanned.brands, threshold)
    with progress.bars() as bars:
        classifiers = stage1.load(
            *(workspace / model for model in (paths.TEXT_MODEL, paths.NGRAM_MODEL, paths.IMAGE_MODEL, paths.AUDIO_MODEL))
        )
        report = progress.reporter(bars, "stage 1", len(posts))
        size = params.predict
        probs = stage1.predict(classifiers, posts, params.policies, media, size.batch_size, size.chunk_size, report)
        if champion is None or pinned.champion is None:
            scores = scores_of_served(data, test, params.policies)
        else:
            version = champion.fusion.incumbent
            seen = test if version is None else incumbent.beside(test, data.served, version, champion.policies)
            of_champion = champion.predict(seen, media, progress.reporter(bars, "champion", len(test)))
            scores, _ = score_table(of_champion, test, data.examples, data.manifest["synthetic"])
            scores = scores.append_column("model_version", pa.array([f"champion {pinned.champion.version}"] * scores.num_rows, pa.string()))
    probs.insert(1, "split", posts["split"].to_numpy())
    rows = probs.merge(logos, on="post_id", validate="1:1")
    _write(pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(stage1.lanes_of(classifiers)), stage1_out)
    _write(scores, champion_out)
    return Result(len(posts), scores.num_rows)


def load_champion(store: Path, pinned: Inputs) -> pipeline.Pipeline | None:
    """The champion that inputs.json names, out of `store/bundles`; None where it names none.

    Raises:
        FailedWork: its bundle is missing or damaged.
    """
    if pinned.champion is None:
        return None
    bundle = store / "bundles" / pinned.champion.digest
    if not bundle.is_dir():
        raise FailedWork(f"{bundle}: the champion's bundle is missing; start the run again, its first task exports it")
    return pipeline.load(bundle)


def scores_of_served(data: Snapshot, test: pd.DataFrame, policies: Sequence[str]) -> pa.Table:
    """The scores by which decisions on test posts were made: what a new model is compared with while no champion is registered.

    Args:
        data: its decisions and examples are read.
        test: posts of the split test.
        policies: categories that are kept.

    Returns:
        table with the columns of the scores contract and model_version, one row a post and category with a decision, in their order.
    """
    decided = data.served[data.served["post_id"].isin(test["post_id"]) & data.served["category"].isin(policies)]
    parts = [SCORE_SCHEMA.empty_table()]
    for category, own in decided.groupby("category"):
        probs = own[["post_id", "score"]].rename(columns={"score": f"prob_{category}"})
        parts.append(score_table(probs, test, data.examples, data.manifest["synthetic"])[0])
    scores = pa.concat_tables(parts).sort_by([("item_id", "ascending"), ("category", "ascending")])
    version = decided.set_index(["post_id", "category"])["model_version"].to_dict()
    named = [version[key] for key in zip(scores["item_id"].to_pylist(), scores["category"].to_pylist(), strict=True)]
    return scores.append_column("model_version", pa.array(named, pa.string()))


def media_of(store: Path, posts: pd.DataFrame, pinned: Inputs) -> stage1.Media:
    """Pictures, sounds and vectors of a snapshot's posts out of the store, which is opened when the first is asked for.

    Args:
        store: folder with ledger and features.
        posts: of the snapshot.
        pinned: says which version of each extractor is meant.

    Returns:
        digests -> content of each, raises FailedWork naming a digest that the store does not hold; and the vectors of texts that
        extraction has left there, for a classifier whose encoder would make them again.
    """
    features = PinnedFeatures(pinned.location(store), pinned.features)
    has_them = functools.cache(has_own_vectors)

    def vectors(model: TextModel, texts: Sequence[str]) -> Mapping[str, NDArray[np.float32]]:
        """Those of the extractor's version that embeds as the classifier reads."""
        if not has_them(model):
            return NONE_KNOWN
        version = text_version(model.setup.backbone, model.setup.prefix, model.setup.max_tokens, model.lane)
        return features.vectors("text_embedding", version, {hashing.of_bytes(text.encode()) for text in texts})

    return stage1.Media(
        whole("image", store, contents.pictures_of(store, posts, pinned)), whole("sound", store, contents.sounds_of(store, pinned)), vectors
    )


def _write(table: pa.Table, path: Path) -> None:
    with replacing(path) as partial:
        pq.write_table(table, partial, compression="zstd")


@command("predict")
def main(asked: ParamOptions = PARAM_OPTIONS, store: StoreFolder = STORE_FOLDER) -> Output:
    """Apply stage 1 and the champion to the posts that they have not learned from; without a champion, read what served."""
    result = run(parameters.load(*asked), store, Path(), paths.STAGE1, paths.CHAMPION_SCORES)
    text = f"{result.num_posts} posts scored by stage 1, {result.num_comparator_scores} scores to compare with"
    return Output(asdict(result), lambda: console().print(text))


if __name__ == "__main__":
    sys.exit(main())
