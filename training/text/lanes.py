"""Which number format a text classifier scores in: bfloat16 where this machine is faster in it and ranks no language differently."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from upheld.feature_store.backbones.devices import has_fast_bfloat16
from upheld.training.loop.examples import Array
from upheld.training.text.model import TextModel, in_bfloat16, predict_text

MAX_AUC_SHIFT = 0.002  # of a language's ROC-AUC in a category
MIN_LABELS = 50  # of each class, for a language's ROC-AUC to be asked; among fewer a few pairs of posts move it by more than is allowed
MIN_TEXTS = 50  # fewer say nothing about a shift
MAX_PROB_SHIFT = 0.05  # of any text, which guards the languages that have too few labels
MIN_SPEEDUP = 1.2  # what noise alone does not show
TEST_SECONDS = 2.0


@dataclass(frozen=True)
class Gate:
    """What a lane's probabilities are beside those of fp32 on the same texts. `auc_shift`: category -> language -> ROC-AUC - that of fp32,
    where there are labels enough; shifts of probabilities are absolute. `reason` says why the lane was refused, None where it passed."""

    num_texts: int
    auc_shift: dict[str, dict[str, float]]
    max_prob_shift: float
    mean_prob_shift: float
    reason: str | None


def gate(fp32: Array, lane: Array, targets: Array, weights: Array, languages: Sequence[str], policies: Sequence[str]) -> Gate:
    """Compare a lane's probabilities with those of fp32.

    Args:
        fp32: probabilities, float32 (N, C).
        lane: those of the lane, likewise.
        targets: probability of violation by the reviewers, float32 (N, C); above one half is a violation.
        weights: float32 (N, C), 0 where there is no label.
        languages: of the N texts.
        policies: of the C columns.
    """
    if len(fp32) < MIN_TEXTS:
        return Gate(len(fp32), {}, 0.0, 0.0, f"split val has {len(fp32)} texts, {MIN_TEXTS} are needed to compare")
    shifts: dict[str, dict[str, float]] = {}
    tongues = np.array(languages)
    for column, policy in enumerate(policies):
        for language in sorted(set(languages)):
            rows = (tongues == language) & (weights[:, column] > 0)
            is_violation = targets[rows, column] > 0.5
            if min(is_violation.sum(), (~is_violation).sum()) >= MIN_LABELS:
                ours, reference = (roc_auc_score(is_violation, probs[rows, column]) for probs in (lane, fp32))
                shifts.setdefault(policy, {})[language] = float(ours - reference)
    moved = np.abs(lane - fp32)
    most = float(moved.max()) if np.isfinite(moved).all() else float("inf")
    reason = f"a probability moves by {most:.3f}, allowed are {MAX_PROB_SHIFT}" if most > MAX_PROB_SHIFT else None
    for policy, of_policy in shifts.items():
        for language, shift in of_policy.items():
            if abs(shift) > MAX_AUC_SHIFT:
                reason = f"ROC-AUC of {policy} in {language} moves by {shift:+.4f}, allowed are {MAX_AUC_SHIFT}"
    return Gate(len(fp32), shifts, most, float(moved.mean()), reason)


def speedup(model: TextModel, faster: TextModel, texts: Sequence[str]) -> float:
    """How many times as fast as `model` another computes, on the same texts in turns for some two seconds, each once to warm up."""
    sample = list(texts[:64])
    seconds = [0.0, 0.0]
    predict_text(model, sample[:8])
    predict_text(faster, sample[:8])
    while sum(seconds) < TEST_SECONDS:
        for place, one in enumerate((model, faster)):
            begin = time.perf_counter()
            predict_text(one, sample)
            seconds[place] += time.perf_counter() - begin
    return seconds[0] / seconds[1]


def choose(model: TextModel, texts: Sequence[str], targets: Array, weights: Array, languages: Sequence[str]) -> dict[str, Any]:
    """Set the lane that a trained model will score in, here and wherever it is loaded: its thresholds hold for that lane's scores.

    Args:
        model: trained, in lane fp32; its setup is changed where bf16 passes.
        texts: of split val.
        targets: as for `gate`.
        weights: likewise.
        languages: likewise.

    Returns:
        for metadata.json: {"lane", "reason" for fp32 or None, "gate" of bf16 or None}. No times: equal runs must give equal files.
    """
    if not has_fast_bfloat16(next(model.parameters()).device):
        return {"lane": "fp32", "reason": "this machine has no fast bfloat16", "gate": None}
    faster = in_bfloat16(model)
    verdict = gate(predict_text(model, texts), predict_text(faster, texts), targets, weights, languages, model.setup.policies)
    reason = verdict.reason
    if reason is None and speedup(model, faster, texts) < MIN_SPEEDUP:
        reason = f"bf16 is not {MIN_SPEEDUP} times as fast as fp32 here"
    if reason is None:
        model.setup = replace(model.setup, lane="bf16")
    return {"lane": model.setup.lane, "reason": reason, "gate": asdict(verdict)}
