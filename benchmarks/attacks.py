"""How much recall do character attacks cost, with our normalisation of texts and without it? The members of stage 1, on a real stream.

usage: python benchmarks/attacks.py [--data ../shared/data/stream] [--category hate_speech] [--share 0.5] [--augmented 0.3]

Both members, the head on the frozen encoder and the character n-grams, learn from the verdicts on the posts of all weeks but the last two.
Attacked are the posts of these two weeks that people confirmed, in `--share` of the words, as `training/robustness/words.py` does. A post
counts as found where its score is above that which a tenth of the restored posts, not attacked, reach. On one side texts go to the models
as they are, in training and test, on the other as `normalised` spells them; on a third, besides, `--augmented` of the texts that are learnt
from have been attacked before, each by an attack that is drawn. Attacks are drawn with a fixed seed.
The last line is `ratio N`: recall lost without normalisation over recall lost with it, both on average over the attacks.
"""

import argparse
import datetime
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from upheld.common.params import params as parameters
from upheld.feature_store.posts.text_normalisation import normalised
from upheld.training.loop.head import fit_head
from upheld.training.loop.logistic import fit_soft
from upheld.training.ngrams.model import vectoriser_of
from upheld.training.robustness import words
from upheld.training.robustness.words import EVERY_EDIT
from upheld.training.text.model import build_text, text_features

FALSE_POSITIVE_RATE = 0.1
MAX_POSTS = 4000  # to learn from, the latest
MAX_ATTACKED = 400
SHARES = (0.6, 0.4)  # of the head and the n-grams, as fusion has them without evidence


def main() -> None:
    """Train both sides, attack, and print recall per attack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/stream"))
    parser.add_argument("--category", default="hate_speech")
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--augmented", type=float, default=0.3)
    args = parser.parse_args()
    train, test = labelled(args.data, args.category)
    confirmed = test.text[test.label == 1].sample(frac=1, random_state=0).head(MAX_ATTACKED).tolist()
    restored = test.text[test.label == 0].tolist()
    attacked = {"none": confirmed}
    for name, edit in EVERY_EDIT.items():
        changed = [words.attacked(text, edit, words.chance(0, name, text), args.share) for text in confirmed]
        attacked[name] = [one.text for one in changed]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    print(f"{datetime.date.today()} · {platform.machine()} · commit {commit} · {args.data.name} · {args.category}")
    print(f"{len(train)} posts learnt from; {len(confirmed)} attacked, {len(restored)} restored ones set the threshold")
    params = parameters.load(Path("params.yaml"), [])
    score = Encoder(params)
    learnt = {"as written": train, "normalised": train, "augmented": augmented(train, args.augmented, args.share)}
    sides = {
        name: recalls(score, params, rows, restored, attacked, str if name == "as written" else normalised) for name, rows in learnt.items()
    }
    print(f"{'recall':18}" + "".join(f"{name:>12}" for name in sides))
    for name in attacked:
        print(f"{name:18}" + "".join(f"{found[name]:12.3f}" for found in sides.values()))
    lost = {side: np.mean([found["none"] - found[name] for name in EVERY_EDIT]) for side, found in sides.items()}
    print(f"{'lost on average':18}" + "".join(f"{one:12.3f}" for one in lost.values()))
    print(f"ratio {lost['as written'] / lost['normalised']:.2f}")


class Encoder:
    """What the head sees of texts, each computed once."""

    def __init__(self, params: parameters.Params) -> None:
        self.model = build_text(params.text.backbone, ["one"], params.text.max_tokens, params.text.prefix, 0.0)
        self.known: dict[str, np.ndarray] = {}

    def __call__(self, texts: list[str]) -> np.ndarray:
        """Features, float32 (N, H)."""
        new = sorted({text for text in texts if text not in self.known})
        self.known |= dict(zip(new, text_features(self.model, new), strict=True)) if new else {}
        return np.stack([self.known[text] for text in texts])


def augmented(train: pd.DataFrame, share: float, word_share: float) -> pd.DataFrame:
    """The posts to learn from, that share of them attacked."""
    draw, names = np.random.default_rng(0), list(words.ATTACKS)
    texts = []
    for text in train.text:
        name = names[draw.integers(len(names))]
        changed = words.attacked(text, words.ATTACKS[name], words.chance(1, name, text), word_share).text
        texts.append(changed if draw.random() < share else text)
    return train.assign(text=texts)


def labelled(folder: Path, category: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Reviewed posts with a text of all weeks but the last two, the latest MAX_POSTS, and of these two: text and label (0 or 1)."""
    posts = pq.ParquetDataset(folder / "posts").read(["post_id", "created_at", "text"]).to_pandas()
    outcomes = pq.ParquetDataset(folder / "review_outcomes").read().to_pandas()
    own = outcomes[(outcomes.category == category) & outcomes.verdict.isin(["confirm_removal", "restore"])]
    last = own.sort_values(["reviewed_at", "outcome_id", "revision"]).drop_duplicates("post_id", keep="last")
    rows = posts.merge(last[["post_id", "verdict"]], on="post_id").sort_values("created_at")
    rows = rows[rows.text.fillna("").str.strip() != ""].assign(label=lambda table: (table.verdict == "confirm_removal").astype(int))
    late = rows.created_at >= rows.created_at.max().normalize() - pd.Timedelta(weeks=2)
    return rows[~late].tail(MAX_POSTS), rows[late]


def recalls(
    score: Encoder,
    params: parameters.Params,
    train: pd.DataFrame,
    restored: list[str],
    attacked: dict[str, list[str]],
    spell: Callable[[str], str],
) -> dict[str, float]:
    """Recall under each attack of models that learn and judge texts as `spell` gives them."""
    texts, label = [spell(text) for text in train.text], train.label.to_numpy(np.float32)
    weight = np.ones(len(label), np.float32)
    vectoriser = vectoriser_of(params.ngrams.ngram_range, params.ngrams.max_features)
    slopes, intercept = fit_soft(vectoriser.fit_transform(texts), label, weight, params.ngrams.inverse_l2)
    head = fit_head(score(texts), label[:, None], weight[:, None], np.ones(1, np.float32), params.text.head_inverse_l2)

    def logits(judged: list[str]) -> np.ndarray:
        """What both members say of texts, by their shares."""
        spelt = [spell(text) for text in judged]
        of_head = score(spelt) @ head[0][0] + head[1][0]
        return SHARES[0] * of_head + SHARES[1] * (vectoriser.transform(spelt) @ slopes + intercept)

    threshold = np.quantile(logits(restored), 1 - FALSE_POSITIVE_RATE)
    return {name: float((logits(texts) > threshold).mean()) for name, texts in attacked.items()}


if __name__ == "__main__":
    main()
