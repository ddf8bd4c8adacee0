"""The registered model as MLflow loads it: code, not a pickle; the bundle's own digests are checked on load."""

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.models import set_model

from upheld import ROOT
from upheld.common.params import params as parameters
from upheld.training.pipeline import bundle
from upheld.training.scoring.frame import FrameScorer


class PipelineModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # mlflow is not typed
    """Calibrated probabilities of posts of text alone; `upheld score` takes posts with their media and decides on them."""

    def load_context(self, context: Any) -> None:
        """Load and verify the bundle; parameters are those that lie in the package."""
        settings = parameters.load(ROOT / "upheld" / parameters.FILE)
        self.scorer = FrameScorer(bundle.load(Path(context.artifacts["bundle"])), settings)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Predict probabilities.

        Args:
            context: MLflow's; unused, the bundle is loaded already.
            model_input: DataFrame as `FrameScorer.predict` takes; MLflow drops what the signature does not name.
            params: unused.

        Returns:
            DataFrame of post_id and prob_{policy}, float64 in (0, 1).

        Raises:
            BadUse: as `FrameScorer.predict`.
        """
        return self.scorer.predict(model_input)


set_model(PipelineModel())
