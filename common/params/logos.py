"""Sections of params.yaml that the logo detector and its data read."""

from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from upheld.common.params.section import Section, Share

# Of a photo being decoded: four copies at most, with four channels of 8 bits, and a codec's own state (progressive JPEG: 6).
BYTES_PER_PIXEL: Final = 24

Quality = Annotated[int, Field(ge=1, le=95)]  # of JPEG; Pillow advises against more


class LogoData(Section):
    """What a photo and a box of a logo dataset must be, how photos are spread over splits where none are given, and how many composites
    a retrain makes where the store has marks."""

    max_pixels: int = Field(gt=0)
    min_side_px: float = Field(gt=0)
    max_outside_px: float = Field(ge=0)
    max_hash_distance: int = Field(ge=0, le=256)
    val_share: Share
    test_share: Share
    num_composites: int = Field(ge=0)

    @model_validator(mode="after")
    def _leave_room(self) -> Self:
        """Something must be left for training."""
        if self.val_share + self.test_share >= 1:
            raise ValueError("val_share + test_share must be below 1")
        return self

    @property
    def decode_memory_bytes(self) -> int:
        """Of a process that decodes photos: what a picture of so many pixels takes at most, and what a decoder takes for any."""
        return BYTES_PER_PIXEL * self.max_pixels + (256 << 20)

    @property
    def shares(self) -> dict[str, float]:
        """Share of the photos in each held-out split."""
        return {"val": self.val_share, "test": self.test_share}


class LogoCompose(Section):
    """How marks are pasted onto photos; shares are of composites or marks, in [0, 1]."""

    max_side_px: int = Field(ge=32)
    min_side_px: float = Field(gt=0)
    max_marks: int = Field(ge=1)
    empty_share: Share
    distractor_share: Share
    mark_share: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]]
    rotation_deg: float = Field(ge=0, le=90)
    perspective: float = Field(ge=0, le=0.2)
    recolour_share: Share
    plate_share: Share
    min_contrast: Share
    occluded_share: Share
    cropped_share: Share
    min_visible_share: float = Field(gt=0, le=1)
    max_blur_px: float = Field(ge=0.4)
    shaken_share: Share
    max_grain: float = Field(ge=0, le=0.5)
    jpeg_quality: tuple[Quality, Quality]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        """A range goes from low to high."""
        for name in ("mark_share", "jpeg_quality"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: {low} is more than {high}")
        return self
