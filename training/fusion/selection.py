"""What fusion hears, by policy: a member of stage 1 that brings nothing on validation is left out, and a hidden layer is not put in."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import logit
from sklearn.metrics import roc_auc_score

from upheld.common.arrays import Bools, Floats
from upheld.feature_store.contracts.hashing import uniform
from upheld.training.fusion import hidden
from upheld.training.fusion import model as fusion_model
from upheld.training.fusion.model import PolicyFusion

# Effective number of violations, and of others, that a member must have judged. With so many, leaving out changed the ROC-AUC of new posts
# by .000 on average and by -.02 in the worst case (benchmarks/results/leave_out.txt); with half as many single cases lost .04.
MIN_LABELS = 20
FOLDS = 5  # parts of the reviewed posts, on which a hidden layer fitted to the others is tried


@dataclass(frozen=True)
class Verdict:
    """What one member was found to bring beside the others.

    `num`: posts that it judged, among those compared. `gain`: nats a post by which the cross-entropy is lower with it; that, its standard
    error and both areas are None where it was not compared: too few labels, its modality's first one, or no other member is left.
    `is_contrary`: it is left out because its probability would count against what it says.
    """

    left_out: bool
    num: int
    gain: float | None = None
    standard_error: float | None = None
    roc_auc: float | None = None
    roc_auc_without: float | None = None
    is_contrary: bool = False


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
    return _without_contrary(rows, policy, l2, min_labels, learnt, verdicts), verdicts


def with_hidden(rows: pd.DataFrame, policy: str, l2: float, min_labels: int, learnt: PolicyFusion) -> tuple[PolicyFusion, Verdict | None]:
    """The policy with a hidden layer, if posts that neither was fitted on are judged better with it, by more than a standard error.

    Both are fitted anew for each of FOLDS parts without its posts; the parts are drawn by the posts' ids.

    Args:
        rows, policy, l2, min_labels: as for `select`.
        learnt: what that chose.

    Returns:
        the policy; and the comparison, None where there are too few labels for one (MIN_LABELS effective ones of each class).
    """
    known = (rows["label"].notna() & rows["weight"].notna()).to_numpy()
    drawn = known & rows["inclusion_prob"].notna().to_numpy()
    label = rows["label"].to_numpy(np.float64)
    weight = (1 / rows["inclusion_prob"]).to_numpy(np.float64)
    if learnt.reason or min(_effective(weight[drawn & of_class]) for of_class in (label > 0.5, label < 0.5)) < MIN_LABELS:
        return learnt, None

    def layered(fitted: PolicyFusion, on: Bools) -> PolicyFusion:
        """With a layer that was fitted on the labelled posts among `on`."""
        features, mean = fusion_model.named_evidence(rows, policy, fitted)
        on = on & known & ~np.isnan(mean)
        mass = rows["weight"].to_numpy(np.float64)[on]
        rising, offset = fusion_model.rising(features.columns), fusion_model.said(fitted, features)
        return fitted.model_copy(update={"hidden": hidden.fit(features[on], rising, offset[on], label[on], mass / mass.mean())})

    fold = (uniform("fusion/fold", rows["post_id"]) * FOLDS).astype(int)
    logits, without = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    for number in range(FOLDS):
        apart = fold == number
        fitted, _ = fusion_model.fit_held_out(rows.assign(label=rows["label"].mask(apart)), policy, l2, min_labels, learnt.left_out)
        if fitted.reason:
            return learnt, None
        for scores, one in ((without, fitted), (logits, layered(fitted, ~apart))):
            scores[apart] = logit(fusion_model.apply({policy: one}, rows[apart])[f"prob_{policy}"])
    verdict = _compared(label[drawn], weight[drawn], logits[drawn], without[drawn], int(drawn.sum()))
    better = not verdict.left_out and (verdict.gain or 0.0) > (verdict.standard_error or 0.0)
    return (layered(learnt, np.ones(len(rows), bool)) if better else learnt), replace(verdict, left_out=not better)


def _without_contrary(
    rows: pd.DataFrame, policy: str, l2: float, min_labels: int, learnt: PolicyFusion, verdicts: dict[str, Verdict]
) -> PolicyFusion:
    """The policy without members that would count against what they say: more of a member's probability is never less of fusion's.

    The most contrary goes first. Where the last one is contrary, the reviewed posts contradict stage 1, which then passes through.
    """
    while against := {name: value for name in fusion_model.rising(learnt.coefficients) if (value := learnt.coefficients[name]) < 0}:
        member = min(against, key=lambda name: against[name]).removesuffix("_logit")
        members = [name for of in fusion_model.heard(rows, policy, learnt.left_out).values() for name in of]
        if members == [member]:
            reason = f"reviewed posts speak against {member}, all that is heard: the mean of the stage-1 logits passes through"
            return learnt.model_copy(update={"intercept": 0.0, "coefficients": {}, "reason": reason})
        verdicts[member] = replace(verdicts.get(member, Verdict(True, 0)), left_out=True, is_contrary=True)
        learnt, _ = fusion_model.fit_held_out(rows, policy, l2, min_labels, (*learnt.left_out, member))
    return learnt


def _compared(label: Floats, weight: Floats, logits: Floats, without: Floats, num: int) -> Verdict:
    """The verdict on a member by the posts' left-one-out logits with and without it, all (N,); the error is that of a weighted mean."""
    share = weight / weight.sum()
    gains = _cross_entropy(label, without) - _cross_entropy(label, logits)
    gain = float(share @ gains)
    error = float(np.sqrt(share**2 @ (gains - gain) ** 2))
    areas = [_area(label, weight, scores) for scores in (logits, without)]
    return Verdict(gain <= 0 and areas[1] >= areas[0], num, gain, error, roc_auc=areas[0], roc_auc_without=areas[1])


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
