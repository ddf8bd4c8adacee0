"""Sections of params.yaml that the models read."""

from typing import Annotated, Literal

from pydantic import Field

from upheld.common.params.section import Section, Share


class Compute(Section):
    """How networks are trained: `lane` says which kernels may be used, and text, image and sound are trained by `processes` together."""

    lane: Literal["deterministic", "fast"]
    processes: int = Field(ge=1)


class Fit(Section):
    """What the training loop reads; batches are counted in examples, what is computed of one at a time in tokens, pictures, mel frames or
    photos, `warmup_share` is of the steps."""

    batch_size: int = Field(ge=1)
    micro_batch_cost: int = Field(ge=1)
    epochs: int = Field(ge=1)
    patience: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    head_learning_rate: float = Field(gt=0)
    layer_decay: float = Field(gt=0, le=1)
    weight_decay: float = Field(ge=0)
    warmup_share: Share
    checkpoint_steps: int = Field(ge=1)


class Training(Fit):
    """What every classifier's training reads besides; shares of units in [0, 1]."""

    dropout: float = Field(ge=0, lt=1)
    class_weight: Literal["none", "balanced"]
    category_balance: Share
    focal_gamma: float = Field(ge=0)


class Pretrained(Training):
    """A classifier on a pretrained network: which one, what of it is trained, whether its activations are computed again instead of
    kept, and scikit-learn's C of the head where that is a logistic regression on the frozen network's features (modes `head` and
    `head-then-full`)."""

    backbone: str = Field(min_length=1)
    mode: Literal["head", "head-then-full", "full"]
    gradient_checkpointing: bool
    head_inverse_l2: float = Field(gt=0)


class Text(Pretrained):
    """The text classifier: tokens a text (prefix and special tokens included), whether its encoder starts from the champion's, and the
    number format that it scores in: `fastest` takes bfloat16 where the machine is faster in it and split val is ranked alike."""

    max_tokens: int = Field(ge=8)
    prefix: str
    freeze_word_embeddings: bool
    warm_start: bool
    scoring_lane: Literal["fp32", "fastest"]


class Ngrams(Section):
    """The character n-gram classifier: the shortest and longest n-gram, the most frequent ones kept, and scikit-learn's C."""

    ngram_range: tuple[int, int]
    max_features: int = Field(ge=1)
    inverse_l2: float = Field(gt=0)


class Suspects(Section):
    """How many reviewed labels of a category that the models contradict are listed for a second review, at most."""

    max_per_category: int = Field(ge=1)


class Teacher(Section):
    """What the model in production teaches: weights of its soft labels to try on validation, in order of preference at a tie, where a
    reviewer's label has 1 and 0 is no teacher; and unreviewed posts that a network learns from, by kind (n-grams take all)."""

    weights: tuple[Annotated[float, Field(ge=0)], ...] = Field(min_length=1)
    posts: dict[Literal["text", "image", "audio"], Annotated[int, Field(ge=0)]]


class Image(Pretrained):
    """The image classifier: side of its square input in pixels, frames of a post's videos that one training step looks at, and how far, of
    255, fine-tuning lets an attack change a value; 0 is none."""

    size: int = Field(ge=32)
    step_frames: int = Field(ge=1)
    adversarial_eps: float = Field(ge=0, lt=255)


class Audio(Training):
    """The sound classifier: channels of each of its convolutions, and the longest stretch that one training step hears, in mel frames."""

    channels: tuple[int, ...] = Field(min_length=1)
    step_frames: int = Field(ge=16)


class Predict(Section):
    """How stage 1 is applied: posts in one forward pass, and posts among which texts of like length are batched."""

    batch_size: int = Field(ge=1)
    chunk_size: int = Field(ge=1)


class Fusion(Section):
    """The correction of stage 1: its shrinkage, in reviewed posts, the labels of each class without which there is none, and whether the
    score of the model in production is an input of it."""

    l2: float = Field(gt=0)
    min_labels: int = Field(ge=1)
    use_incumbent: bool


class Attacks(Section):
    """How the trained models are attacked: posts of each language and policy, at most, whose spelling is attacked, against which edits are
    searched for, and whose pictures are attacked; the share of a text's words that an attack on spelling changes; characters that the
    search may change in a text, at most; of pictures the radius of the gradient attacks, in units of 1/255, the steps of PGD, the single
    pixels that may change, and the quality that a JPEG is stored with."""

    posts: dict[Literal["text", "search", "image"], Annotated[int, Field(ge=0)]]
    word_share: Share
    search_edits: int = Field(ge=1)
    pgd_eps: float = Field(gt=0, le=255)
    pgd_steps: int = Field(ge=1)
    pixels: int = Field(ge=1)
    jpeg_quality: int = Field(ge=1, le=95)


class Logo(Fit):
    """The logo detector: which backend, the side of its square input in pixels, what it starts from, the least confidence kept."""

    detector: Literal["faster_rcnn", "yolo"]
    backbone: str = Field(min_length=1)
    yolo_weights: str = Field(min_length=1)
    size: int = Field(ge=64, multiple_of=32)
    min_confidence: Share
