"""The workspace of a run: where each stage leaves its files (one constant for each output in dvc.yaml), and what the graph starts from.

What a stage reads is another stage's output, or data/inputs.json, which `python -m upheld.registry.runs.pin` writes before the graph runs:
the only thing outside the graph that its stages read. It pins the versions of ledger and features, the logo data and the champion.
"""

import json
from pathlib import Path
from typing import Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from upheld.common.errors import BadUse

INPUTS: Final = Path("data/inputs.json")

SNAPSHOT: Final = Path("data/snapshot")  # its files: `upheld.feature_store.contracts.snapshot`
FEATURES: Final = Path("data/features.json")
LOGO_DATASET: Final = Path("data/logo")
LOGO_DATASET_REPORT: Final = Path("data/logo_data")
NGRAM_MODEL: Final = Path("models/ngrams")
TEXT_MODEL: Final = Path("models/text")
TEXT_RECORD: Final = TEXT_MODEL / "metadata.json"
IMAGE_MODEL: Final = Path("models/image")
AUDIO_MODEL: Final = Path("models/audio")
LOGO_MODEL: Final = Path("models/logo")
LOGO_DETECTIONS: Final = Path("data/logo_detections.parquet")
LOGO_SCAN: Final = Path("data/logo_scan")
LOGO_EVALUATION: Final = Path("data/logo_evaluation")
STAGE1: Final = Path("data/stage1.parquet")
CHAMPION_SCORES: Final = Path("data/champion_scores.parquet")
FUSION: Final = Path("models/fusion/fusion.json")
FUSION_ACCOUNT: Final = Path("models/fusion/metadata.json")
SCORES: Final = Path("data/scores.parquet")
ABLATIONS: Final = Path("data/ablations.parquet")  # `upheld.feature_store.contracts.tables.ABLATIONS`
ATTACKS: Final = Path("data/attacks.parquet")  # `upheld.feature_store.contracts.tables.ATTACKS`
CALIBRATION: Final = Path("data/calibration")
EVALUATION: Final = Path("data/evaluation")

# Files within these folders that others than their stage name.
CALIBRATION_MAPS: Final = CALIBRATION / "calibration.json"
THRESHOLDS: Final = CALIBRATION / "thresholds.json"
LOGO_CERTIFICATE: Final = LOGO_EVALUATION / "logo.json"
GATE: Final = EVALUATION / "gate.json"
METRICS: Final = EVALUATION / "metrics.parquet"
HEADLINES: Final = EVALUATION / "metrics.json"


class Champion(BaseModel):
    """The model in production, and the digest of its bundle in the store."""

    version: int
    digest: str


class Versions(BaseModel, extra="allow"):
    """Lance version of each ledger table; those that a snapshot reads must be there."""

    posts: int
    decisions: int
    review_outcomes: int
    audit_draws: int


class PinnedTable(BaseModel):
    """Which rows of an extractor's table are meant: the Lance version of the table, and the extractor version that made them.

    `kind` is what the extractor reads: text, image, video or audio.
    """

    lance_version: int
    extractor_version: str
    kind: str


def features_location(store: Path, given: str | None) -> Path | str:
    """Where the feature store of a store folder is: the folder or prefix given, else in the store."""
    return given or store / "features"


class FeaturePins(BaseModel):
    """What of the feature store a run reads: by extractor; empty where nothing was extracted, and in runs from before there was one.

    `features_location` is its folder or prefix, None where it lies in the store.
    """

    features: dict[str, PinnedTable] = {}
    features_location: str | None = None

    def location(self, store: Path) -> Path | str:
        """Where the feature store of a store folder is."""
        return features_location(store, self.features_location)


class LogoPins(BaseModel):
    """What the logo detector learns from besides the ledger; empty in stores, and in runs from before, that have none of it.

    `logo_datasets` has the digest of each dataset in `logos/NAME` of the store, `logo_marks` that of the folder `marks`.
    """

    logo_datasets: dict[str, str] = {}
    logo_marks: str | None = None


class Event(BaseModel):
    """One freeze or unfreeze of a category."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    category: str
    event: Literal["freeze", "unfreeze"]
    who: str
    at: AwareDatetime
    reason: str


class Hold(BaseModel):
    """One hold or release of a reviewer: verdicts given from `since` on count nowhere while a hold stands."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reviewer_id: str
    event: Literal["hold", "release"]
    since: AwareDatetime
    who: str
    at: AwareDatetime
    reason: str


class Inputs(FeaturePins, LogoPins):
    """data/inputs.json: where the graph starts from."""

    tables: Versions
    as_of: AwareDatetime
    ledger_digest: str
    champion: Champion | None
    synthetic: bool
    frozen: tuple[Event, ...] = ()  # categories in which a person has stopped automatic removal; the report shows them
    held: tuple[Hold, ...] = ()  # reviewers whose verdicts a person has taken out


def read_inputs(path: Path) -> Inputs:
    """Read and check data/inputs.json.

    Raises:
        BadUse: naming the file and the key.
    """
    try:
        return Inputs.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise BadUse(f"{path}: cannot be read ({error.strerror}); `python -m upheld.registry.runs.pin` writes it") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise BadUse(
            f"{path}: key {key}: {first['msg']}, got {first['input']!r}; `python -m upheld.registry.runs.pin` writes it anew"
        ) from error
    except ValueError as error:
        raise BadUse(f"{path}: not valid JSON ({error}); `python -m upheld.registry.runs.pin` writes it anew") from error
