"""Sections of params.yaml that evaluation and what follows it read."""

from typing import Annotated, Literal

from pydantic import Field

from upheld.common.params.section import Probability, Section, Share


class Calibration(Section):
    """The per-language calibration layer."""

    share: Probability  # of the labels of the calib split; the others certify thresholds
    min_labels: int = Field(ge=2)  # of the rarer kind; a category with fewer keeps its scores


class Thresholds(Section):
    """Certified thresholds: docs/statistics.md, Removal threshold; docs/statistics.md, Review threshold."""

    precision_target: Probability  # of automatic removals
    recall_target: Probability  # of what a person or the machine gets to see
    delta: Probability  # chance, per category and threshold, of certifying what misses its target
    default_score: Share  # threshold of rates where none is in force
    num_candidates: int = Field(ge=2)  # rank-spaced thresholds of each path
    start_shares: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)  # of the incumbent's removed volume: starts of chains
    max_volume: Annotated[float, Field(gt=0)]  # lowest candidate, in units of the incumbent's removed volume
    start_score: Probability  # volume above it stands for the incumbent's where there is none
    review_start_share: Share  # of the frame: the review path starts where this share would be reviewed
    review_end_share: Share  # and ends where this share would be
    window_weeks: int = Field(ge=1)  # of one model, whose labels a weekly report pools
    # Zone of the draw -> the sampler's stated smallest inclusion probability there, for posts whose row does not say.
    frame_min_inclusion_prob: dict[Literal["auto_remove", "review", "none"], Annotated[float, Field(gt=0, le=1)]] = Field(min_length=1)
    unknown_language: Literal["review", "pool"]  # automatic removal in a language without evidence
    power: Probability  # that need_n aims at


class Fairness(Section):
    """Comparisons between languages, regions and groups: docs/statistics.md, Fairness."""

    tau_gap: Probability  # tolerated difference of FPR, FNR or wrongful removals between a group and all others
    tau_ratio: Annotated[float, Field(gt=1)]  # tolerated FPR ratio
    alpha: Probability  # two-sided error of intervals
    level: Probability  # family-wise level of WARN
    expected_languages: tuple[str, ...]  # a window without one of them fails


class Drift(Section):
    """Alarms between weeks: docs/statistics.md, Drift."""

    error_rates: tuple[Probability, ...] = Field(min_length=1)  # of automatic removals, each above 1 - precision_target
    tilts: tuple[float, ...] = Field(min_length=1)  # shifts of the calibrated logit
    false_alarms_per_year: Annotated[float, Field(gt=0)]  # in all cells together


class Reviewers(Section):
    """Reviewer error: docs/statistics.md, Reviewers' error."""

    delta_apparent: Probability  # error spent on apparent precision, on specificity and on sensitivity
    delta_specificity: Probability
    delta_sensitivity: Probability
    min_gold: int = Field(ge=1)  # double-adjudicated items of each class
    min_specificity: Share  # its lower bound; below, no correction
    min_informedness: Share  # lower bound of sensitivity + specificity - 1
    level: Probability  # family-wise level at which a reviewer is flagged
    margin_odds: float = Field(ge=1)  # how many times as often, in odds, an honest reviewer may confirm, or restore, as colleagues do
    margin_flips: Share  # of an honest reviewer's verdicts may be the other way round


# Names of the attacks in data/attacks.parquet: on what a post says, and on its pictures.
TextAttack = Literal["swap", "homoglyphs", "zero_width", "spacing", "leetspeak", "transliteration", "repeat", "drop", "search"]
ImageAttack = Literal["fgsm", "pgd", "pixels", "jpeg"]


class Gate(Section):
    """Bounds that a candidate model must meet. A cell is written `category/language`; `all` is the pooled one."""

    required_cells: tuple[Annotated[str, Field(pattern=r"^[^/]+/[^/]+$")], ...]
    minimums: dict[str, float]
    maximums: dict[str, float]
    max_loss: dict[str, float]
    fairness: tuple[str, ...]
    logo_min_map_50: Share
    max_recall_lost: dict[TextAttack | ImageAttack, Share]  # attack -> recall that the ensemble may lose to it


class Behave(Section):
    """Bounds of behaviour tests; probabilities and shares."""

    min_pass_rate: Share  # of the cases of a functionality
    min_pass_rates: dict[str, Share]  # functionality -> its own bound
    max_score_shift: Share  # mean difference of the probabilities of cases that should score alike
    max_flip_rate: Share  # of such pairs: how many may be decided differently
    min_ordered_rate: Share  # of pairs with different expected labels: in how many the violation must score higher


class DsaExport(Section):
    """Indicators for transparency reports."""

    max_interval: Annotated[float, Field(gt=0, le=1)]  # width of an interval beyond which no value is stated


class Promote(Section):
    """How long a person has to approve what goes into production, in hours; silence is a no."""

    response_timeout_h: float = Field(gt=0)


class AuditSample(Section):
    """How an audit's budget is spread over zones, and how the score shapes the draw among untouched posts."""

    floor_share: Share  # of the budget, spread evenly over zones and categories whatever it settles
    uniform_share: Share  # of the draw among posts that nobody was shown; at least .5 buys certificates of recall
    min_inclusion_prob: Probability
