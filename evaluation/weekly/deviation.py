"""Compare reviewers on items that one person saw: like items reach them as if at random (docs/statistics.md, Reviewers alone on an item).

Items are alike in category, language, zone and score. Within such a stratum how many of a reviewer's items are violations is
hypergeometric, given how many items and violations there are; sums over strata have the exact distribution of their convolution.
"""

from collections.abc import Iterable
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import gammaln

from upheld.common.arrays import Floats
from upheld.common.params.evaluation import Reviewers
from upheld.evaluation.statistics import intervals

NUM_BINS = 8  # of scores in a category, language and zone, with equal numbers of verdicts
MIN_REVIEWERS = 3  # of a language: two disagree, and nothing tells which of them is wrong
MIN_VERDICTS = 10  # in strata that tell something, from which a reviewer can be compared
WINDOWS = (2, 6)  # weeks looked at together: who has just changed is seen in few, who differs a little in many
STEPS = 16  # weights of strata are multiples of 1/16: then a sum of them is a whole number, and its distribution exact
CELL = ["category", "language", "zone"]


class Found(NamedTuple):
    """Whose verdicts deviate, in the order in which they were found, and who could be compared.

    flagged: reviewer_id, kind (`confirms more`, `confirms less`, `follows colleagues less`), num (verdicts compared), num_confirmed,
    expected (confirmed, by what all say of like items), p_adjusted (Holm over reviewers, and
    over windows and the reports that see a verdict), weeks (of the window; `over_windows` alone gives it).
    num_reviewers: that gave a verdict; num_compared: that could be compared.
    too_few: languages in which fewer than three reviewers could be.
    """

    flagged: pd.DataFrame
    num_reviewers: int
    num_compared: int
    too_few: list[str]


def over_windows(verdicts: pd.DataFrame, section: Reviewers, *, odds: float, flips: float) -> Found:
    """As `find`, in the last weeks of each of WINDOWS; the windows and the reports that see a verdict share the error.

    Args:
        verdicts: as for `find`, with a column week; the last of WINDOWS weeks.
        section, odds, flips: as for `find`.

    Returns:
        whoever deviates in a window, by the one that shows it best; who could be compared and the languages are of the longest.
    """
    weeks = sorted(verdicts.week.unique())
    parts = [
        find(verdicts[verdicts.week.isin(weeks[-window:])], section, odds=odds, flips=flips, tests=window * len(WINDOWS))
        for window in WINDOWS
    ]
    flagged = pd.concat([part.flagged.assign(weeks=min(window, len(weeks))) for part, window in zip(parts, WINDOWS, strict=True)])
    best = flagged.sort_values("p_adjusted", kind="stable").drop_duplicates("reviewer_id")
    return parts[-1]._replace(flagged=best.reset_index(drop=True))


def find(verdicts: pd.DataFrame, section: Reviewers, *, odds: float, flips: float, tests: int) -> Found:
    """Find reviewers who differ from colleagues by more than chance, and by more than honest people do.

    The most deviating is taken out with all verdicts before others are judged anew: beside one who confirms everything innocent
    colleagues look lenient.

    Args:
        verdicts: a row a verdict: reviewer_id, category, language, zone, score in [0, 1], verdict (1 violation, 0 none).
        section: `level` is the family-wise level.
        odds: how many times as often, in odds, an honest reviewer may confirm or restore, at least 1.
        flips: share in [0, 1) of an honest reviewer's verdicts that say the opposite of what colleagues' would.
        tests: how many such tests share the level.

    Sources: Mantel & Haenszel (1959), Journal of the National Cancer Institute 22(4), of strata; Fisher's noncentral hypergeometric
    distribution (Fog 2008, Communications in Statistics 37(2)) where odds are not 1; Holm (1979) over reviewers.
    """
    left = verdicts.assign(bin=_bins(verdicts))
    found: list[dict[str, Any]] = []
    while True:
        compared, too_few = _comparable(left)
        names = sorted(compared.reviewer_id.unique())
        if not found:
            first = len(names), too_few
        tested = [_test(name, compared, odds, flips) for name in names]
        worst = min(tested, key=lambda row: row["p_adjusted"], default=None)
        adjusted = 1.0 if worst is None else min(1.0, tests * len(names) * worst["p_adjusted"])
        if worst is None or adjusted > section.level:
            break
        found.append({**worst, "p_adjusted": adjusted})
        left = left[left.reviewer_id != worst["reviewer_id"]]
    columns = ["reviewer_id", "kind", "num", "num_confirmed", "expected", "p_adjusted"]
    return Found(pd.DataFrame(found, columns=columns), int(verdicts.reviewer_id.nunique()), *first)


def _bins(verdicts: pd.DataFrame) -> pd.Series:
    """Which eighth of its cell's scores a verdict's lies in; equal scores share one."""
    rank = verdicts.groupby(CELL).score.rank(method="average", pct=True)
    bins: pd.Series = np.ceil(rank * NUM_BINS).astype("int64")
    return bins


def _comparable(verdicts: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Verdicts in strata that tell something, of reviewers who are at least three in their language; and the languages with fewer."""
    of_stratum = verdicts.groupby([*CELL, "bin"])
    differ = of_stratum.verdict.transform("nunique") > 1
    rows = verdicts[differ & (of_stratum.reviewer_id.transform("nunique") > 1)]
    num = rows.groupby(["language", "reviewer_id"]).size()
    enough = num[num >= MIN_VERDICTS].groupby("language").size()
    languages = enough[enough >= MIN_REVIEWERS].index
    rows = rows[rows.language.isin(languages)]
    total = rows.groupby("reviewer_id").verdict.transform("size")
    return rows[total >= MIN_VERDICTS], sorted(set(verdicts.language) - set(languages))


def _test(name: str, verdicts: pd.DataFrame, odds: float, flips: float) -> dict[str, Any]:
    """One reviewer against everybody else: p-value of bias and of carelessness, the smaller counting twice."""
    own = verdicts.reviewer_id == name
    keys = [*CELL, "bin"]
    margins = verdicts.groupby(keys).verdict.agg(all="size", violations="sum")
    strata = verdicts[own].groupby(keys).verdict.agg(num="size", confirmed="sum").join(margins)
    share = strata.violations / strata["all"]
    expected = float((strata.num * share).sum())
    confirmed = int(strata.confirmed.sum())
    cells = [(int(row[0]), int(row[1]), int(row[2])) for row in strata[["all", "violations", "num"]].to_numpy()]
    ones = np.ones(len(cells), int)
    more = _tail((_hypergeometric(*cell, odds) for cell in cells), ones, confirmed, upper=True)
    less = _tail((_hypergeometric(*cell, 1 / odds) for cell in cells), ones, confirmed, upper=False)
    weights = np.rint((share - 0.5) * STEPS).astype(int).to_numpy()
    follows = int((weights * strata.confirmed).sum())
    careless = _tail((_flipped(_hypergeometric(*cell, 1.0), flips) for cell in cells), weights, follows, upper=False)
    p_bias = min(1.0, 2 * min(more, less))
    kind = "follows colleagues less" if careless < p_bias else "confirms more" if more < less else "confirms less"
    p_value = min(1.0, 2 * min(p_bias, careless))
    return {
        "reviewer_id": name, "kind": kind, "num": int(strata.num.sum()), "num_confirmed": confirmed, "expected": expected,
        "p_adjusted": p_value,
    }  # fmt: skip


def _hypergeometric(total: int, violations: int, drawn: int, odds: float) -> Floats:
    """Probability of each number 0..drawn of violations among `drawn` of `total` items; above odds of 1 violations are favoured."""
    number = np.arange(drawn + 1)
    possible = (number <= violations) & (drawn - number <= total - violations)
    inside = number[possible]
    logs = inside * np.log(odds)
    for size, chosen in ((violations, inside), (total - violations, drawn - inside)):
        logs = logs + gammaln(size + 1) - gammaln(chosen + 1) - gammaln(size - chosen + 1)
    probs = np.zeros(drawn + 1)
    probs[possible] = np.exp(logs - logs.max())
    return np.asarray(probs / probs.sum(), np.float64)


def _flipped(probs: Floats, flips: float) -> Floats:
    """What becomes of the probabilities of 0, 1, ... confirmed where each verdict is turned round with probability `flips`."""
    if not flips:
        return probs
    drawn = len(probs) - 1
    turned = np.zeros(drawn + 1)
    for number, prob in enumerate(probs):
        if prob > 0:
            kept = stats.binom.pmf(np.arange(number + 1), number, 1 - flips)
            added = stats.binom.pmf(np.arange(drawn - number + 1), drawn - number, flips)
            turned += prob * np.convolve(kept, added)
    return turned


def _tail(strata: Iterable[Floats], weights: Iterable[int], observed: int, *, upper: bool) -> float:
    """P(sum of weight x number <= observed) over independent strata, or >= with `upper`."""
    lowest, parts = 0, [np.ones(1)]
    for probs, weight in zip(strata, weights, strict=True):
        if weight:
            spread = np.zeros(abs(weight) * (len(probs) - 1) + 1)
            spread[:: abs(weight)] = probs if weight > 0 else probs[::-1]
            lowest += min(weight * (len(probs) - 1), 0)
            parts.append(spread)
    probs = reduce(np.convolve, parts)
    place = observed - lowest
    return float(min(1.0, probs[place:].sum() if upper else probs[: place + 1].sum()))


def routed(verdicts: pd.DataFrame, level: float) -> pd.DataFrame:
    """Find reviewers whose items score otherwise than colleagues': then items do not reach people as if at random.

    Like items are compared all the same, but what sends them to somebody may move their truth beyond what scores tell.

    Args:
        verdicts: as for `find`.
        level: family-wise level (Holm over reviewers).

    Returns:
        reviewer_id, num, rank (mean rank of the scores among those of the same category, language and zone, in (0, 1); .5 is as others'),
        p_adjusted; one row a reviewer with MIN_VERDICTS in cells that others share, the flagged alone, the clearest first.

    Source: van Elteren (1960), Bulletin de l'Institut International de Statistique 37(3): Wilcoxon's rank sums over strata, normal limit.
    """
    cells = verdicts.groupby(CELL)
    size, rank = cells.score.transform("size"), cells.score.rank(method="average")
    rows = verdicts.assign(size=size, rank=rank / (size + 1))[cells.reviewer_id.transform("nunique") > 1]
    spread = rows.groupby(CELL)["rank"].var(ddof=1).rename("spread")
    own = rows.groupby(["reviewer_id", *CELL]).agg(num=("rank", "size"), total=("rank", "sum"), size=("size", "first")).reset_index()
    own = own.join(spread, on=CELL)
    own = own.assign(gap=own.total - own.num / 2, variance=own.num * (own["size"] - own.num) / own["size"] * own.spread)
    found = own.groupby("reviewer_id")[["num", "total", "gap", "variance"]].sum()
    found = found[(found.num >= MIN_VERDICTS) & (found.variance > 0)]
    p_adjusted = intervals.holm(2 * stats.norm.sf(found.gap.abs() / found.variance**0.5))
    found = found.assign(rank=found.total / found.num, p_adjusted=p_adjusted).reset_index()
    return found[found.p_adjusted <= level].sort_values("p_adjusted")[["reviewer_id", "num", "rank", "p_adjusted"]]


def beside_colleagues(verdicts: pd.DataFrame, name: str) -> pd.DataFrame:
    """One reviewer's verdicts with `share`: how many of colleagues' verdicts on like items confirm; those without like items left out.

    Args:
        verdicts: as for `find`.
        name: the reviewer.
    """
    binned = verdicts.assign(bin=_bins(verdicts))
    others = binned[binned.reviewer_id != name].groupby([*CELL, "bin"]).verdict.mean().rename("share")
    return binned[binned.reviewer_id == name].join(others, on=[*CELL, "bin"]).dropna(subset="share")
