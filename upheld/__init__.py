"""Turns human-review outcomes into retrained, calibrated, fair and traceable content-moderation models.

The packages lie at the top of the repository and are linked into this folder, so that there is one importable name, `upheld`,
and a run's workspace, which copies folders and links alike, imports its own copy.
"""

import os
from pathlib import Path

__version__ = "0.1.0"
ROOT = Path(__file__).resolve().parents[1]  # what this copy of the code lies in: a checkout, a run's workspace, or site-packages

# Libraries that report on their use unless told not to before they are imported. ONNX Runtime does so on Linux from 1.29 on: it makes an
# id of the machine and sends names and digests of models with it.
os.environ.update(
    ORT_DISABLE_TELEMETRY="1",
    MLFLOW_DISABLE_TELEMETRY="true",
    GX_ANALYTICS_ENABLED="false",
    HF_HUB_DISABLE_TELEMETRY="1",
)
