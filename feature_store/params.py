"""The parameters of every stage: one frozen model a section of params.yaml."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from feature_store.errors import BadUse

Probability = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A section of params.yaml: unknown keys and wrong types are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Training(Section):
    """What both classifiers' training reads; batches are counted in posts, shares of the steps and of units in [0, 1]."""

    backbone: str = Field(min_length=1)
    batch_size: int = Field(ge=1)
    epochs: int = Field(ge=1)
    patience: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    head_learning_rate: float = Field(gt=0)
    layer_decay: float = Field(gt=0, le=1)
    weight_decay: float = Field(ge=0)
    warmup_share: Share
    dropout: float = Field(ge=0, lt=1)
    class_weight: Literal["none", "balanced"]
    category_balance: Share
    focal_gamma: float = Field(ge=0)
    checkpoint_steps: int = Field(ge=1)


class Text(Training):
    """The text classifier: tokens a text (prefix and special tokens included), and what its encoder starts from."""

    max_tokens: int = Field(ge=8)
    prefix: str
    freeze_word_embeddings: bool
    warm_start: bool


class Image(Training):
    """The image classifier: side of its square input in pixels."""

    size: int = Field(ge=32)


class Predict(Section):
    """How stage 1 is applied: posts in one forward pass, and posts among which texts of like length are batched."""

    batch_size: int = Field(ge=1)
    chunk_size: int = Field(ge=1)


class Fusion(Section):
    """The correction of stage 1: its shrinkage, in reviewed posts, and the labels of each class without which there is none."""

    l2: float = Field(gt=0)
    min_labels: int = Field(ge=1)


class Labels(Section):
    """How review outcomes become one label per post and category."""

    min_shared_items: int = Field(ge=1)
    max_reviewer_share: Probability


class Splits(Section):
    """Which posts train, select, fuse, calibrate and test: time windows first, then groups, then strata."""

    calib_share: Probability
    test_share: Probability
    val_share: Probability
    fusion_share: Probability
    max_group_share: Probability
    max_linked_share: Probability
    min_text_similarity: Probability

    @model_validator(mode="after")
    def _leave_room(self) -> Self:
        """Three splits share the development window, and three windows the posts: something must be left for training."""
        if self.calib_share + self.test_share >= 1:
            raise ValueError("calib_share + test_share must be below 1")
        if self.val_share + self.fusion_share >= 1:
            raise ValueError("val_share + fusion_share must be below 1")
        return self


class Snapshot(Section):
    """What a snapshot holds besides the labelled posts."""

    frame_rows: int = Field(ge=0)


class Ingest(Section):
    """Bounds of what a delivery may hold, and of what is held in memory while it is read."""

    batch_rows: int = Field(gt=0)
    batch_bytes: int = Field(gt=0)
    max_row_bytes: int = Field(gt=0)
    max_text_chars: int = Field(gt=0)
    max_id_chars: int = Field(gt=0)
    max_media_per_post: int = Field(gt=0)
    max_media_bytes: int = Field(gt=0)
    max_media_pixels: int = Field(gt=0)
    media_hosts: tuple[str, ...]
    media_timeout_s: float = Field(gt=0)
    min_inclusion_prob: Probability
    max_clock_skew_s: float = Field(ge=0)


class Expectations(Section):
    """What an accepted batch must look like; outside of it no snapshot is made."""

    min_accepted: int = Field(ge=0)
    max_quarantined_share: Share
    min_label_rate: Share
    max_label_rate: Share
    max_language_shift: Share
    min_rows_to_tell: int = Field(gt=0)
    max_age_days: float = Field(gt=0)
    max_missing_weeks: int = Field(ge=0)
    window_weeks: int = Field(gt=0)


class Gate(Section):
    """Bounds that a candidate model must meet. A cell is written `category/language`; `all` is the pooled one."""

    required_cells: tuple[Annotated[str, Field(pattern=r"^[^/]+/[^/]+$")], ...]
    minimums: dict[str, float]
    maximums: dict[str, float]
    max_loss: dict[str, float]
    fairness: tuple[str, ...]


class DsaExport(Section):
    """Indicators for transparency reports."""

    max_interval: Annotated[float, Field(gt=0, le=1)]  # width of an interval beyond which no value is stated


class Behave(Section):
    """Bounds of behaviour tests; probabilities and shares."""

    min_pass_rate: Share  # of the cases of a functionality
    min_pass_rates: dict[str, Share]  # functionality -> its own bound
    max_score_shift: Share  # mean difference of the probabilities of cases that should score alike
    max_flip_rate: Share  # of such pairs: how many may be decided differently
    min_ordered_rate: Share  # of pairs with different expected labels: in how many the violation must score higher


class Promote(Section):
    """How long a person has to approve what goes into production, in hours; silence is a no."""

    response_timeout_h: float = Field(gt=0)


class AuditSample(Section):
    """How an audit's budget is spread over the three zones, and how the score shapes the draw among untouched posts."""

    share_auto_remove: Share
    share_review: Share
    share_none: Share
    uniform_share: Share
    min_inclusion_prob: Probability


class SampleData(Section):
    """The synthetic world: its calendar and size, who writes in it, and with what probability its own system has posts reviewed."""

    origin_week: str = Field(pattern=r"^[0-9]{4}-W[0-9]{2}$")
    weeks: int = Field(ge=1)
    posts_per_week: int = Field(ge=1)
    share_images: Share
    share_captions: Share
    num_authors: int = Field(ge=1)
    share_offenders: Share
    num_reviewers: int = Field(ge=8)
    thr_auto_remove: Probability
    thr_review: Probability
    prob_audit_removed: Share
    prob_queue: Share
    prob_audit_passed: tuple[Share, Share, Share]


class Calibration(Section):
    """The per-language calibration layer."""

    share: Probability  # of the labels of the calib split; the others certify thresholds
    min_labels: int = Field(ge=2)  # of the rarer kind; a category with fewer keeps its scores


class Thresholds(Section):
    """Certified thresholds: STATISTICS.md, sections 1 and 2."""

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
    # Zone of the draw -> the sampler's stated smallest inclusion probability there, for posts whose row does not say.
    frame_min_inclusion_prob: dict[Literal["auto_remove", "review", "none"], Annotated[float, Field(gt=0, le=1)]] = Field(min_length=1)
    unknown_language: Literal["review", "pool"]  # automatic removal in a language without evidence
    power: Probability  # that need_n aims at


class Fairness(Section):
    """Comparisons between languages, regions and groups: STATISTICS.md, section 3."""

    tau_gap: Probability  # tolerated difference of FPR, FNR or wrongful removals between a group and all others
    tau_ratio: Annotated[float, Field(gt=1)]  # tolerated FPR ratio
    alpha: Probability  # two-sided error of intervals
    level: Probability  # family-wise level of WARN
    expected_languages: tuple[str, ...]  # a window without one of them fails


class Drift(Section):
    """Alarms between weeks: STATISTICS.md, section 5."""

    error_rates: tuple[Probability, ...] = Field(min_length=1)  # of automatic removals, each above 1 - precision_target
    tilts: tuple[float, ...] = Field(min_length=1)  # shifts of the calibrated logit
    false_alarms_per_year: Annotated[float, Field(gt=0)]  # in all cells together


class Reviewers(Section):
    """Reviewer error: STATISTICS.md, section 6."""

    delta_apparent: Probability  # error spent on apparent precision, on specificity and on sensitivity
    delta_specificity: Probability
    delta_sensitivity: Probability
    min_gold: int = Field(ge=1)  # double-adjudicated items of each class
    min_specificity: Share  # its lower bound; below, no correction
    min_informedness: Share  # lower bound of sensitivity + specificity - 1
    level: Probability  # family-wise level at which a reviewer is flagged


class Params(Section):
    """All sections of params.yaml. Each section is named after the stage or command that reads it."""

    policies: tuple[str, ...] = Field(min_length=1)
    seed: int = Field(ge=0)
    ingest: Ingest
    expectations: Expectations
    labels: Labels
    splits: Splits
    snapshot: Snapshot
    text: Text
    image: Image
    predict: Predict
    fusion: Fusion
    calibration: Calibration
    thresholds: Thresholds
    fairness: Fairness
    drift: Drift
    reviewers: Reviewers
    gate: Gate
    behave: Behave
    dsa_export: DsaExport
    promote: Promote
    audit_sample: AuditSample
    sample_data: SampleData


def load(path: Path, overrides: list[str] | None = None) -> Params:
    """Read and check the params file.

    Args:
        path: YAML file.
        overrides: `section.key=value` strings, value in YAML syntax; each replaces what the file says.

    Returns:
        the checked parameters.

    Raises:
        BadUse: the file is missing or no YAML mapping, a key is unknown, a value has the wrong type or range,
            or an override is not of the form key=value. The message names the file and the key.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadUse(f"{path}: cannot be read ({error.strerror}); expected the params file, name it with --params") from error
    except yaml.YAMLError as error:
        raise BadUse(f"{path}: not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise BadUse(f"{path}: expected a mapping of sections, found {type(content).__name__}")
    for override in overrides or []:
        _apply(content, override)
    return check(content, str(path))


def check(content: dict[str, Any], origin: str) -> Params:
    """Validate a mapping of sections.

    Raises:
        BadUse: naming `origin`, the first offending key, what is wrong with it and how many further ones there are.
    """
    try:
        return Params.model_validate(_tuples(content))
    except ValidationError as error:
        first, *rest = error.errors()
        key = ".".join(str(part) for part in first["loc"])
        more = f" (and {len(rest)} more)" if rest else ""
        raise BadUse(f"{origin}: key {key}: {first['msg']}, got {first['input']!r}{more}") from error


def flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mapping to `section.key` names; lists and empty mappings stay values."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return flat


def _tuples(value: Any) -> Any:
    """YAML has lists only; strict models want tuples."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _apply(content: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise BadUse(f"--set {override}: expected section.key=value")
    *parents, leaf = key.split(".")
    target = content
    for parent in parents:
        target = target.get(parent)  # type: ignore[assignment]
        if not isinstance(target, dict):
            raise BadUse(f"--set {override}: there is no section {parent!r} in the params file")
    if leaf not in target:
        raise BadUse(f"--set {override}: unknown key {key!r}; known here: {', '.join(sorted(map(str, target)))}")
    value = yaml.safe_load(text)
    if isinstance(value, str) and isinstance(target[leaf], float):  # YAML takes 1e-4 for a string
        with suppress(ValueError):
            value = float(value)
    target[leaf] = value
