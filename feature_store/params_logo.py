"""Sections of params.yaml that the logo detector and its data read."""

from typing import Self

from pydantic import Field, model_validator

from feature_store.params_section import Section, Share


class LogoData(Section):
    """What a photo and a box of a logo dataset must be, and how photos are spread over splits where none are given."""

    max_pixels: int = Field(gt=0)
    min_side_px: float = Field(gt=0)
    max_outside_px: float = Field(ge=0)
    max_hash_distance: int = Field(ge=0, le=256)
    val_share: Share
    test_share: Share

    @model_validator(mode="after")
    def _leave_room(self) -> Self:
        """Something must be left for training."""
        if self.val_share + self.test_share >= 1:
            raise ValueError("val_share + test_share must be below 1")
        return self

    @property
    def shares(self) -> dict[str, float]:
        """Share of the photos in each held-out split."""
        return {"val": self.val_share, "test": self.test_share}
