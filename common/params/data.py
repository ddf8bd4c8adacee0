"""Sections of params.yaml from deliveries to the snapshot."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from upheld.common.params.section import Probability, Section, Share


class Ingest(Section):
    """Bounds of what a delivery may hold, and of what is held in memory while it is read."""

    batch_rows: int = Field(gt=0)
    batch_bytes: int = Field(gt=0)
    max_row_bytes: int = Field(gt=0)
    max_file_bytes: int = Field(gt=0)
    max_text_chars: int = Field(gt=0)
    max_id_chars: int = Field(gt=0)
    max_media_per_post: int = Field(gt=0)
    max_media_bytes: int = Field(gt=0)
    max_media_pixels: int = Field(gt=0)
    media_hosts: tuple[str, ...]
    media_timeout_s: float = Field(gt=0)
    min_inclusion_prob: Probability
    max_revision: int = Field(ge=0)
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
    max_picture_distance: int = Field(ge=0, le=256)

    @model_validator(mode="after")
    def _leave_room(self) -> Self:
        """Three splits share the development window, and three windows the posts: something must be left for training."""
        if self.calib_share + self.test_share >= 1:
            raise ValueError("calib_share + test_share must be below 1")
        if self.val_share + self.fusion_share >= 1:
            raise ValueError("val_share + fusion_share must be below 1")
        return self


class Snapshot(Section):
    """What a snapshot holds besides the labelled posts, what it takes from the features, and how drift is measured on them."""

    frame_rows: int = Field(ge=0)
    unreviewed_rows: int = Field(ge=0)
    min_language_prob: Share
    max_part_chars: int = Field(ge=1)
    max_frames: int = Field(ge=1)
    drift_posts: int = Field(ge=2)
    drift_min_posts: int = Field(ge=2)


_Kind = Literal["text", "image", "video", "audio"]
_Count = Annotated[int, Field(ge=1)]
_Seconds = Annotated[float, Field(gt=0)]


class Features(Section):
    """The feature store, which extractors fill it only when they are named, and in what portions; sizes are counted in contents, one for
    each kind of content."""

    location: str | None
    skip: tuple[str, ...]
    batch_size: dict[_Kind, _Count]
    model_batch: dict[_Kind, _Count]
    decode_timeout_s: dict[_Kind, _Seconds]
    decode_memory_bytes: int = Field(ge=1 << 26)
    keep_versions_days: float = Field(ge=0)

    @model_validator(mode="after")
    def _name_every_kind(self) -> Self:
        """Each of the three says something of every kind."""
        kinds = {"text", "image", "video", "audio"}
        for name in ("batch_size", "model_batch", "decode_timeout_s"):
            if set(getattr(self, name)) != kinds:
                raise ValueError(f"{name} must name {', '.join(sorted(kinds))}")
        return self


class SampleData(Section):
    """The synthetic world: its calendar and size, who writes in it, and with what probability its own system has posts reviewed."""

    origin_week: str = Field(pattern=r"^[0-9]{4}-W[0-9]{2}$")
    weeks: int = Field(ge=1)
    posts_per_week: int = Field(ge=1)
    share_images: Share
    share_clips: Share
    share_captions: Share
    share_planted: Share
    share_logos: Share
    num_authors: int = Field(ge=1)
    share_offenders: Share
    num_reviewers: int = Field(ge=8)
    thr_auto_remove: Probability
    thr_review: Probability
    prob_audit_removed: Share
    prob_queue: Share
    prob_audit_passed: tuple[Share, Share, Share]
    prob_logo_review: Share
