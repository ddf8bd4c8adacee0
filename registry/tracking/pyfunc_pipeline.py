"""The registered model as MLflow loads it: code, not a pickle; the bundle's own digests are checked on load."""

from pathlib import Path
from typing import Any

import mlflow
from mlflow.models import set_model

from upheld.common.errors import BadUse
from upheld.training.pipeline import bundle, stage1


class PipelineModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # mlflow is not typed
    """Calibrated probabilities of posts given as features, without pictures and sound; `upheld score` takes posts as delivered."""

    def load_context(self, context: Any) -> None:
        """Load and verify the bundle."""
        self.pipeline = bundle.load(Path(context.artifacts["bundle"]))

    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        """Predict probabilities.

        Args:
            context: MLflow's; unused, the bundle is loaded already.
            model_input: DataFrame as `upheld.training.pipeline.bundle.Pipeline.predict` takes, image_digests and audio_digests empty; a
                model that needs the score of another takes it as prob_incumbent_{policy}.
            params: unused.

        Returns:
            DataFrame of post_id and prob_{policy}, float64 in (0, 1).

        Raises:
            BadUse: a post has pictures or sound, which this interface cannot carry.
        """
        for column in ("image_digests", "audio_digests"):
            if column in model_input and any(len(names) for names in model_input[column]):
                raise BadUse(f"{column}: MLflow's interface carries no media; score posts with pictures or sound through `upheld score`")
        return self.pipeline.predict(model_input, stage1.NO_MEDIA)


set_model(PipelineModel())
