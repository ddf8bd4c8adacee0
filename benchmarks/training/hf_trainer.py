"""How long does it take to a fine-tuned text classifier as good as the one that HF Trainer makes with its defaults?

usage: python benchmarks/training/hf_trainer.py [--data ../shared/data/stream] [--posts 1000] [--seeds 1 2 3] [--epochs 1 2]
           [--modes full] [--set KEY=VALUE]

Hate speech of the stream's first four weeks, the posts with a verdict, drawn by the seed as `text_modes.py` does: 70 % to learn from, 10 %
to choose the epoch on; judged are all posts with a verdict of the weeks after. Both sides start from the same encoder.
Theirs: `transformers.Trainer` with the `TrainingArguments` that come by default (three epochs, 5e-5, batches of 8, float32, all weights
trained, batches padded to their longest), on the classifier that transformers makes of the encoder. Ours: the params, once for each mode
and number of epochs, validation and the vectors of a head included. Seconds are those of the processor, over all threads, so that other
work on the machine counts little; those on the clock are printed beside.
The last line is `ratio N`: their seconds over ours, medians over seeds, of the fastest of ours whose mean ROC-AUC is not below theirs
by more than TOLERANCE; 0 if there is none.
"""

import argparse
import datetime
import itertools
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from text_modes import LAST_WEEK, drawn
from text_quality import first_day, labelled, read_delivery
from transformers import BertForSequenceClassification, DataCollatorWithPadding, PreTrainedTokenizerFast, Trainer, TrainingArguments

from upheld.common.params import params as parameters
from upheld.training.text.model import predict_text
from upheld.training.text.stage import fit_text, prepare

TOLERANCE = 0.005
CATEGORY = "hate_speech"
THEIRS = "HF Trainer"


def main() -> None:
    """Train both sides for each seed and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/stream"), help="delivery folder with eight weeks")
    parser.add_argument("--posts", type=int, default=1000, help="with a verdict, drawn with a fixed seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 2], help="of ours")
    parser.add_argument("--modes", nargs="+", default=["head-then-full", "full"], help="of ours")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    asked = [f"policies=[{CATEGORY}]", *args.set]
    posts, outcomes = read_delivery(args.data)
    known = labelled(posts, outcomes, first_day(posts) + pd.Timedelta(weeks=2 * LAST_WEEK), parameters.load(args.params, asked))
    rows = known[known["hard_label"].notna() & (known["category"] == CATEGORY)]
    rows = rows.merge(posts[["post_id", "language", "text", "week"]], on="post_id", validate="m:1")
    rows = rows[rows["text"].str.strip() != ""]
    judged, rows = rows[rows["week"] > LAST_WEEK], rows[rows["week"] <= LAST_WEEK]
    rows = rows.sample(min(args.posts, len(rows)), random_state=0).sort_values("post_id", ignore_index=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    print(f"{datetime.date.today()} · {platform.machine()}, {torch.get_num_threads()} threads · commit {commit}")
    print(f"text: {parameters.load(args.params, asked).text.model_dump()}")
    print(f"{len(judged)} posts judged")
    areas: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    for seed, (mode, epochs) in itertools.product(args.seeds, [("", 0), *itertools.product(args.modes, args.epochs)]):
        train, val, _ = drawn(rows, seed)
        asked_now = [f"text.mode={mode}", f"text.epochs={epochs}"] if epochs else []
        own = parameters.load(args.params, [*asked, f"seed={seed}", *asked_now])
        name = f"{mode}, {epochs} epochs" if epochs else THEIRS
        clock, processor = time.monotonic(), time.process_time()
        score = ours(train, val, own) if epochs else theirs(pd.concat([train, val]), seed, own)
        took_s, clock_s = time.process_time() - processor, time.monotonic() - clock
        area = roc_auc_score(judged["hard_label"].astype(int), score(judged["text"].tolist()))
        areas.setdefault(name, []).append(float(area))
        seconds.setdefault(name, []).append(took_s)
        took = f"{took_s:7.1f} s of the processor, {clock_s:7.1f} s on the clock"
        print(f"{name:24} seed {seed}  ROC-AUC {area:.3f}  {took}, {len(train)} posts to learn from", flush=True)
    means = {name: float(np.mean(some)) for name, some in areas.items()}
    ratio = 0.0
    for name, mean in means.items():
        faster = float(np.median(seconds[THEIRS]) / np.median(seconds[name]))
        print(f"{name:24} mean ROC-AUC {mean:.3f}, {mean - means[THEIRS]:+.3f} to theirs, {faster:.2f} times as fast")
        if name != THEIRS and mean >= means[THEIRS] - TOLERANCE:
            ratio = max(ratio, faster)
    print(f"ratio {ratio:.2f}")


def ours(train: pd.DataFrame, val: pd.DataFrame, params: parameters.Params) -> Callable[[list[str]], NDArray[np.float32]]:
    """Train as the stage text does; gives what scores texts."""
    model = prepare(params)
    examples = [part[["post_id", "category", "label"]].assign(weight=1.0) for part in (train, val)]
    with tempfile.TemporaryDirectory() as folder:
        fit_text(model, train, val, *examples, params, Path(folder) / "progress")
    return lambda texts: predict_text(model, texts)[:, 0]


def theirs(train: pd.DataFrame, seed: int, params: parameters.Params) -> Callable[[list[str]], NDArray[np.float32]]:
    """Train with HF Trainer's defaults on train and val together, for it chooses no epoch; gives what scores texts."""
    start = prepare(params)  # for its encoder and tokenizer
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=start.tokenizer, pad_token="<pad>", model_max_length=params.text.max_tokens)
    encoder = start.encoder.float()
    config = encoder.config
    config.num_labels, config.hidden_dropout_prob, config.attention_probs_dropout_prob = 2, 0.1, 0.1
    torch.manual_seed(seed)
    model = BertForSequenceClassification(config)
    model.bert.load_state_dict(encoder.state_dict(), strict=False)  # its pooler is new, as where a model has none
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    encoded = tokenizer([params.text.prefix + text for text in train["text"]], truncation=True)
    labels = train["hard_label"].astype(int).tolist()
    examples = [
        {"input_ids": ids, "attention_mask": mask, "labels": label}
        for ids, mask, label in zip(encoded["input_ids"], encoded["attention_mask"], labels, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, seed=seed, save_strategy="no", report_to=[], disable_tqdm=True, logging_strategy="no", use_cpu=True
        )
        Trainer(model=model, args=arguments, train_dataset=examples, data_collator=DataCollatorWithPadding(tokenizer)).train()  # type: ignore[arg-type]
    model.eval()

    def score(texts: list[str]) -> NDArray[np.float32]:
        """Probability of a violation of each text."""
        parts = []
        with torch.inference_mode():
            for place in range(0, len(texts), 32):
                some = [params.text.prefix + text for text in texts[place : place + 32]]
                inputs = tokenizer(some, truncation=True, padding=True, return_tensors="pt")
                inputs.pop("token_type_ids", None)
                parts.append(torch.softmax(model(**inputs).logits, 1)[:, 1].numpy())
        return np.concatenate(parts)

    return score


if __name__ == "__main__":
    main()
