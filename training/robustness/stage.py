"""Stage `attack`: how far attacks on confirmed violations, and on pictures that are none, move the members and the ensemble.

usage: python -m upheld.training.robustness.stage     in a workspace that holds data/snapshot, the models and data/scores.parquet
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from upheld.common import progress
from upheld.common.arrays import Floats32, Ints
from upheld.common.command import PARAM_OPTIONS, STORE_FOLDER, Output, ParamOptions, StoreFolder, command
from upheld.common.errors import FailedWork
from upheld.common.files import replacing
from upheld.common.params import params as parameters
from upheld.common.terminal import console
from upheld.feature_store.contracts import tables
from upheld.feature_store.contracts import workspace as paths
from upheld.feature_store.contracts.hashing import uniform
from upheld.feature_store.contracts.snapshot import Snapshot, pins_of, read_snapshot
from upheld.feature_store.decoding.images import decode_square
from upheld.feature_store.features import media
from upheld.training.fusion import incumbent
from upheld.training.fusion.model import Fusion
from upheld.training.image.model import ImageModel, batches, load_image
from upheld.training.ngrams.model import load_ngrams
from upheld.training.robustness import pictures
from upheld.training.robustness.judges import ENSEMBLE, Judge
from upheld.training.robustness.search import search
from upheld.training.robustness.words import ATTACKS, Attacked, attacked, chance
from upheld.training.text.model import load_text

FALSE_POSITIVE_RATE = 0.1  # of the threshold at which recall is told: what this share of the posts without a violation reach
NO_THRESHOLD = 0.5  # where there is none of them
PICTURES_AT_ONCE = 8  # whose activations are kept for the gradient
PIXEL_QUERIES = 10
ROW = ["post_id", "language", "policy", "label", "weight"]
OF_TEXTS = ("text", "ngrams", ENSEMBLE)
MEMBERS = (*OF_TEXTS, "image")
KEY = ["modality", "policy", "language", "post_id", "attack", "member"]
Thresholds = Mapping[str, Mapping[str, float]]  # member -> policy -> score
FetchImages = Callable[[Sequence[str]], Mapping[str, bytes]]  # digests of pictures -> the bytes of each


@dataclass(frozen=True)
class Result:
    """What the stage did.

    Attributes:
        num_attacked: posts under attack by kind, as in `attacks.posts`, each counted once a policy.
        recall: member -> attack -> share of the violations that the member finds before and after, as `recall` gives it.
    """

    num_attacked: dict[str, int]
    recall: dict[str, dict[str, tuple[float, float]]]


def run(params: parameters.Params, store: Path, workspace: Path, out: Path) -> Result:
    """Attack the models on posts of split test, which they have not learned from.

    Args:
        params: `attacks`, `thresholds.review_start_share`, `predict`, `policies` and `seed` are read.
        store: folder with the ledger's media and the features.
        workspace: folder with the snapshot, the models and what the stages predict and fusion have written.
        out: table to write, in the contract `tables.ATTACKS`, in order of its keys. It has the text attacks for the members text, ngrams
            and ensemble, whose searches are each on that member's own score, and the picture attacks for image and ensemble. A search ends
            below the score that `review_start_share` of the test posts reach: no review threshold lies lower. The table is empty where no
            test post can be attacked.

    Raises:
        FailedWork: a table or model is missing or unreadable, or a picture has left the store.
    """
    data = read_snapshot(workspace / paths.SNAPSHOT)
    fusion, rows, scores = _read(workspace, data, params.policies)
    text, ngrams = load_text(workspace / paths.TEXT_MODEL), load_ngrams(workspace / paths.NGRAM_MODEL)
    image = load_image(workspace / paths.IMAGE_MODEL)
    judge = Judge(text, ngrams, fusion.policies, rows, params.predict.batch_size)
    known = labelled(scores).merge(data.posts[["post_id", "text", "image_digests", "num_frames"]], on="post_id", validate="m:1")
    with_text = known[known["label"] & (known["text"].fillna("").str.strip() != "")]
    written, searched = drawn(with_text, params, "text"), drawn(with_text, params, "search")
    seen = known[known["image_digests"].map(lambda names: names is not None and len(names) > 0).astype(bool)]
    shown = drawn(seen[seen["policy"].isin(image.setup.policies if image else ())], params, "image")
    everything = scores.rename(columns={"item_id": "post_id", "category": "policy"}).assign(weight=1.0)
    ends = _reached(judge, everything, params.thresholds.review_start_share, params.policies)
    thresholds = _reached(judge, known[~known["label"].astype(bool)], FALSE_POSITIVE_RATE, params.policies)
    fetch = media.whole("image", store, media.pictures_of(store, data.posts, pins_of(data.manifest)))
    with progress.bars() as bars:
        parts = [tables.ATTACKS.empty_table().to_pandas()]
        parts += _on_spelling(judge, written, params, progress.reporter(bars, "attacks on texts", len(ATTACKS)))
        parts += _searched(judge, searched, ends, params, progress.reporter(bars, "searches on texts", len(OF_TEXTS)))
        if image is not None:
            parts += _on_pictures(judge, image, shown, fetch, params, progress.reporter(bars, "posts with pictures", len(shown)))
    table = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    table = table[table["clean_prob"].notna()].sort_values(KEY, ignore_index=True)
    with replacing(out) as partial:
        pq.write_table(pa.Table.from_pandas(table, schema=tables.ATTACKS, preserve_index=False), partial, compression="zstd")
    return Result({"text": len(written), "search": len(searched), "image": len(shown)}, recall(table, thresholds))


def _read(workspace: Path, data: Snapshot, policies: Sequence[str]) -> tuple[Fusion, pd.DataFrame, pd.DataFrame]:
    """The fusion layer; what it reads of the test posts; and the test rows of the score table.

    Raises:
        FailedWork: a file is missing or unreadable.
    """
    try:
        fusion = Fusion.model_validate_json((workspace / paths.FUSION).read_text(encoding="utf-8"))
        stage1, scores = (pd.read_parquet(workspace / name, filters=[("split", "==", "test")]) for name in (paths.STAGE1, paths.SCORES))
    except (OSError, pa.ArrowException, ValidationError) as error:
        raise FailedWork(f"{workspace}: not what the stages predict and fusion write ({error}); run them again") from error
    context = data.posts[["post_id", "prior_removals", "num_hashtags", "has_link", "context_excess"]]
    rows = stage1.drop(columns="split").merge(context, on="post_id", validate="1:1")
    if fusion.incumbent is not None:
        rows = incumbent.beside(rows, data.served, fusion.incumbent, policies)
    return fusion, rows, scores


def labelled(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of a score table whose label is known, with the columns ROW."""
    rows = scores[scores["label"].notna()].rename(columns={"item_id": "post_id", "category": "policy"})
    return rows.assign(label=rows["label"] == 1, weight=1 / rows["inclusion_prob"])[ROW]


def drawn(rows: pd.DataFrame, params: parameters.Params, what: Literal["text", "search", "image"]) -> pd.DataFrame:
    """At most `attacks.posts[what]` rows of each language and policy, violations first, by a hash; in order of policy and post.

    Each row's weight is multiplied by how many there are for one that is drawn, of its language, policy and label.
    """
    cell = ["language", "policy", "label"]
    order = rows.assign(rest=~rows["label"].astype(bool), draw=uniform(f"attacks/{params.seed}", rows["post_id"]))
    order = order.sort_values(["rest", "draw", "post_id"]).assign(there=lambda one: one.groupby(cell)["draw"].transform("size"))
    kept = order.groupby(["language", "policy"]).head(params.attacks.posts[what])
    weight = kept["weight"] * kept["there"] / kept.groupby(cell)["draw"].transform("size")
    kept = kept.assign(weight=weight).drop(columns=["rest", "draw", "there"])
    return kept.sort_values(["policy", "post_id"], ignore_index=True)


def _reached(judge: Judge, rows: pd.DataFrame, share: float, policies: Sequence[str]) -> dict[str, dict[str, float]]:
    """Of each member and policy the score that this share of the rows reaches, each counted by its weight."""
    found: dict[str, dict[str, float]] = {member: {} for member in MEMBERS}
    for member in MEMBERS:
        for policy in policies:
            own = rows[rows["policy"] == policy]
            probs = judge.before(member, own["post_id"].tolist(), policy)
            there = ~np.isnan(probs)
            weights = own["weight"].to_numpy(np.float64)[there]
            cut = np.quantile(probs[there], 1 - share, method="inverted_cdf", weights=weights) if there.any() else NO_THRESHOLD
            found[member][policy] = float(cut)
    return found


def _on_spelling(judge: Judge, rows: pd.DataFrame, params: parameters.Params, report: progress.Report) -> Iterator[pd.DataFrame]:
    """The attacks that are drawn, as rows of the table."""
    for attack, edit in ATTACKS.items():
        pairs = zip(rows["text"], rows["post_id"], strict=True)
        found = [attacked(text, edit, chance(params.seed, attack, post), params.attacks.word_share) for text, post in pairs]
        yield from (_compared(judge, rows, attack, member, found) for member in OF_TEXTS)
        report(1)


def _searched(
    judge: Judge, rows: pd.DataFrame, ends: Thresholds, params: parameters.Params, report: progress.Report
) -> Iterator[pd.DataFrame]:
    """The searches against each member, until its score is below `ends`, as rows of the table."""
    posts, policies, texts = (rows[name].tolist() for name in ("post_id", "policy", "text"))
    for member in OF_TEXTS:

        def score(asked: Sequence[int], attempts: Sequence[str], member: str = member) -> Floats32:
            return judge.of_texts(member, [posts[row] for row in asked], [policies[row] for row in asked], attempts)

        end = np.array([ends[member][policy] for policy in policies], np.float32)
        found = search(texts, posts, score, end, params.attacks.search_edits, params.seed)
        yield _compared(judge, rows, "search", member, found)
        report(1)


def _compared(judge: Judge, rows: pd.DataFrame, attack: str, member: str, found: Sequence[Attacked]) -> pd.DataFrame:
    """What a member says of the texts of `rows` and of what an attack made of them."""
    posts, policies = rows["post_id"].tolist(), rows["policy"].tolist()
    before, after = (judge.of_texts(member, posts, policies, texts) for texts in (rows["text"].tolist(), [one.text for one in found]))
    return _told(rows, "text", attack, member, before, after, [one.edits for one in found])


def _on_pictures(
    judge: Judge, model: ImageModel, rows: pd.DataFrame, fetch: FetchImages, params: parameters.Params, report: progress.Report
) -> Iterator[pd.DataFrame]:
    """Every attack on pictures as rows of the table."""
    section, size = params.attacks, model.setup.size
    for part in batches([len(names) for names in rows["image_digests"]], PICTURES_AT_ONCE):
        own = rows.iloc[list(part)]
        posts, policies = own["post_id"].tolist(), own["policy"].tolist()
        content = fetch(sorted({name for names in own["image_digests"] for name in names}))
        shown = [[decode_square(content[name], size) for name in names] for names in own["image_digests"]]
        column = np.array([model.setup.policies.index(policy) for policy in policies], np.int64)
        about = (own["num_frames"].tolist(), column, own["label"].to_numpy(bool))
        batch = pictures.batch_of(model, shown, *about)
        stored = pictures.batch_of(model, [[pictures.jpeg(one, section.jpeg_quality) for one in post] for post in shown], *about)
        draws = {attack: [chance(params.seed, attack, post) for post in posts] for attack in ("pgd", "pixels")}
        spotted, num_spots = pictures.single_pixels(batch, section.pixels, PIXEL_QUERIES, draws["pixels"])
        eps = section.pgd_eps / 255
        changed = {
            "fgsm": pictures.fgsm(batch, eps),
            "pgd": pictures.pgd(batch, eps, section.pgd_steps, draws["pgd"]),
            "pixels": spotted,
            "jpeg": stored.pixels,
        }
        clean = pictures.probabilities(batch, batch.pixels)
        for attack, pixels in changed.items():
            probs = pictures.probabilities(batch, pixels)
            for member in ("image", ENSEMBLE):
                before, after = (said if member == "image" else judge.fused(posts, policies, {"image": said}) for said in (clean, probs))
                yield _told(own, "image", attack, member, before, after, num_spots if attack == "pixels" else [0] * len(own))
        report(len(own))


def _told(
    rows: pd.DataFrame, modality: str, attack: str, member: str, before: Floats32, after: Floats32, edits: Sequence[int] | Ints
) -> pd.DataFrame:
    """Rows of the table about one attack on one member."""
    columns = {"clean_prob": before, "attacked_prob": after, "edits": np.asarray(edits)}
    return rows[ROW].assign(modality=modality, attack=attack, member=member).assign(**columns)


def recall(table: pd.DataFrame, thresholds: Thresholds) -> dict[str, dict[str, tuple[float, float]]]:
    """What share of the violations each member finds, by their weights.

    Args:
        table: rows of `tables.ATTACKS`.
        thresholds: of each member and policy; a post is found from there on.

    Returns:
        member -> attack -> the share before and after the attack; posts that were never found are among those not found.
    """
    rows = table[table["label"].astype(bool)]
    bound = [thresholds[member][policy] for member, policy in zip(rows["member"], rows["policy"], strict=True)]
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for (member, attack), own in rows.assign(bound=np.array(bound, np.float32)).groupby(["member", "attack"]):
        before, after = (np.average(own[name] >= own["bound"], weights=own["weight"]) for name in ("clean_prob", "attacked_prob"))
        found.setdefault(str(member), {})[str(attack)] = (float(before), float(after))
    return found


@command("attack")
def main(asked: ParamOptions = PARAM_OPTIONS, store: StoreFolder = STORE_FOLDER) -> Output:
    """Attack the trained models on test posts, and tell what they still find."""
    result = run(parameters.load(*asked), store, Path(), paths.ATTACKS)

    def show() -> None:
        num = result.num_attacked
        console().print(f"attacked: {num['text']} texts, {num['search']} of them by search, {num['image']} posts with pictures")
        for member, attacks in result.recall.items():
            shares = ", ".join(f"{attack} {before:.2f} to {after:.2f}" for attack, (before, after) in attacks.items())
            console().print(f"{member}, share of the violations found: {shares}", markup=False, highlight=False, soft_wrap=True)

    return Output(asdict(result), show)


if __name__ == "__main__":
    sys.exit(main())
