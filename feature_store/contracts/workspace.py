"""Where the stages of the graph leave their files in a workspace: one constant for each output in dvc.yaml, relative to its folder.

What a stage reads is another stage's output, or INPUTS, which `python -m upheld.registry.runs.pin` writes before the graph runs.
"""

from pathlib import Path
from typing import Final

INPUTS: Final = Path("data/inputs.json")

SNAPSHOT: Final = Path("data/snapshot")  # its files: `upheld.feature_store.contracts.snapshot`
FEATURES: Final = Path("data/features.json")
LOGO_DATASET: Final = Path("data/logo")
LOGO_DATASET_REPORT: Final = Path("data/logo_data")
TEXT_MODEL: Final = Path("models/text")
IMAGE_MODEL: Final = Path("models/image")
AUDIO_MODEL: Final = Path("models/audio")
LOGO_MODEL: Final = Path("models/logo")
LOGO_DETECTIONS: Final = Path("data/logo_detections.parquet")
LOGO_SCAN: Final = Path("data/logo_scan")
LOGO_EVALUATION: Final = Path("data/logo_evaluation")
STAGE1: Final = Path("data/stage1.parquet")
CHAMPION_SCORES: Final = Path("data/champion_scores.parquet")
FUSION: Final = Path("models/fusion/fusion.json")
SCORES: Final = Path("data/scores.parquet")
CALIBRATION: Final = Path("data/calibration")
EVALUATION: Final = Path("data/evaluation")

# Files within these folders that others than their stage name.
CALIBRATION_MAPS: Final = CALIBRATION / "calibration.json"
THRESHOLDS: Final = CALIBRATION / "thresholds.json"
LOGO_CERTIFICATE: Final = LOGO_EVALUATION / "logo.json"
GATE: Final = EVALUATION / "gate.json"
METRICS: Final = EVALUATION / "metrics.parquet"
