"""Turns human-review outcomes into retrained, calibrated, fair and traceable content-moderation models.

The packages lie at the top of the repository and are linked into this folder, so that there is one importable name, `upheld`,
and a run's workspace, which copies folders and links alike, imports its own copy.
"""

import importlib
import os
from pathlib import Path
from typing import Any

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


def load(model: str | Path, store: str | Path | None = None) -> Any:
    """Load a model to score posts of text alone: `upheld.load("models:/upheld-moderation@champion").predict(posts)`.

    Needs the extra `serve`, which is imported here and not before.

    Args:
        model: `models:/upheld-moderation@ALIAS`, `models:/upheld-moderation/VERSION`, or the folder of a bundle.
        store: folder with registry and approvals; else what the environment variable UPHELD_STORE names, else `store`. The registry at
            $MLFLOW_TRACKING_URI is asked where that is set.

    Returns:
        `upheld.training.scoring.frame.FrameScorer`, whose `predict` takes a DataFrame with post_id and text and gives post_id and
        prob_{policy}.

    Raises:
        BadUse: there is no such model.
        FailedWork: its files are not those that were registered, or alias champion names what nobody approved.
    """
    return importlib.import_module("upheld.registry.load").load(model, store)
