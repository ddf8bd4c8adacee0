"""Which members of stage 1 fusion hears, by policy: one that brings nothing is left out, and need not be asked."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from upheld.common.arrays import Floats
from upheld.training.fusion import model as fusion_model
from upheld.training.fusion.model import PolicyFusion

# Effective number of violations, and of others, that a member must have judged. With so many, leaving out changed the ROC-AUC of new posts
# by .000 on average and by -.02 in the worst case (benchmarks/results/leave_out.txt); with half as many single cases lost .04.
MIN_LABELS = 20


@dataclass(frozen=True)
class Verdict:
    """What one member was found to bring beside the others.

    `num`: posts that it judged, among those compared. `gain`: nats a post by which the cross-entropy is lower with it; that, its standard
    error and both areas are None where it was not compared: too few labels, its modality's first one, or no other member is left.
    """

    left_out: bool
    num: int
    gain: float | None = None
    standard_error: float | None = None
    roc_auc: float | None = None
    roc_auc_without: float | None = None


def select(rows: pd.DataFrame, policy: str, l2: float, min_labels: int) -> tuple[PolicyFusion, dict[str, Verdict]]:
    """Fit one policy with the members that bring something.

    A member is left out if it judged MIN_LABELS effective labels of each class and, of each post's logit from a fit without that post,
    neither the mean cross-entropy is lower with the member than without it nor the ROC-AUC greater, both weighted by 1/inclusion_prob as
    if every post had been reviewed; with fewer labels leaving out is the worse bet, and so it is for the first member of a modality, which
    goes after the others: that it is the better one is known from more labels than a category has. The least useful goes first, and those
    that stay are compared anew (backward elimination).

    Args:
        rows: as for `fusion_model.fit_held_out`, with inclusion_prob (float in (0, 1], null where no draw chose the post: such a post is
            fitted on, but nothing is decided by it).
        policy, l2, min_labels: as there.

    Returns:
        what was learnt, and for each member that judges any of the compared posts the last comparison that it was in.
    """
    learnt, logits = fusion_model.fit_held_out(rows, policy, l2, min_labels, ())
    compared = ~np.isnan(logits) & rows["inclusion_prob"].notna().to_numpy()
    part = rows[compared]
    label, weight = part["label"].to_numpy(np.float64), 1 / part["inclusion_prob"].to_numpy(np.float64)
    verdicts, candidates = {}, {}
    for member in (name for members in fusion_model.heard(rows, policy, ()).values() for name in members):
        judged = part[f"prob_{member}_{policy}"].notna().to_numpy()
        if judged.any():
            verdicts[member] = Verdict(False, int(judged.sum()))
            if not learnt.reason and min(_effective(weight[judged & of_class]) for of_class in (label > 0.5, label < 0.5)) >= MIN_LABELS:
                candidates[member] = verdicts[member].num
    while len(candidates) > 1:
        trials = {}
        leads = {next(iter(members)) for members in fusion_model.heard(rows, policy, learnt.left_out).values() if len(members) > 1}
        for member, num in ((name, num) for name, num in candidates.items() if name not in leads):
            trial = fusion_model.fit_held_out(rows, policy, l2, min_labels, (*learnt.left_out, member))
            verdicts[member] = _compared(label, weight, logits[compared], trial[1][compared], num)
            if verdicts[member].left_out:
                trials[member] = trial
        if not trials:
            break
        least = min(trials, key=lambda member: verdicts[member].gain or 0.0)
        learnt, logits = trials[least]
        verdicts |= {member: Verdict(False, num) for member, num in candidates.items() if member != least}
        del candidates[least]
    return learnt, verdicts


def _compared(label: Floats, weight: Floats, logits: Floats, without: Floats, num: int) -> Verdict:
    """The verdict on a member by the posts' left-one-out logits with and without it, all (N,); the error is that of a weighted mean."""
    share = weight / weight.sum()
    gains = _cross_entropy(label, without) - _cross_entropy(label, logits)
    gain = float(share @ gains)
    error = float(np.sqrt(share**2 @ (gains - gain) ** 2))
    areas = [_area(label, weight, scores) for scores in (logits, without)]
    return Verdict(gain <= 0 and areas[1] >= areas[0], num, gain, error, *areas)


def _effective(weight: Floats) -> float:
    """Effective number of posts (Kish 1965, Survey Sampling, section 11.7)."""
    return float(weight.sum() ** 2 / (weight**2).sum()) if len(weight) else 0.0


def _cross_entropy(label: Floats, logits: Floats) -> Floats:
    entropy: Floats = np.logaddexp(0, logits) - label * logits
    return entropy


def _area(label: Floats, weight: Floats, scores: Floats) -> float:
    """ROC-AUC against soft labels: a post counts as a violation with its label and as none with the rest."""
    masses = np.concatenate([weight * label, weight * (1 - label)])
    return float(roc_auc_score(np.repeat([1, 0], len(label)), np.tile(scores, 2), sample_weight=masses))
