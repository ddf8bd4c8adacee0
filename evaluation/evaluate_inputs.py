"""What an evaluation reads: files that a caller names, or those of the stage."""

from dataclasses import dataclass, replace
from pathlib import Path

from upheld.feature_store.contracts.inputs import Event, read_inputs
from upheld.feature_store.contracts.workspace import CALIBRATION_MAPS, CHAMPION_SCORES, FEATURES, INPUTS, LOGO_EVALUATION, THRESHOLDS


@dataclass(frozen=True)
class Inputs:
    """What an evaluation reads; only `scores` is needed.

    scores: table in the scores contract.
    thresholds, calibration: what to apply to them.
    champion_scores: the champion's scores on the same rows, calibrated already.
    behaviour: folder that `upheld behave` wrote for the model of the scores.
    logos: folder that `upheld logo evaluate` wrote for the logo detector.
    features: coverage and drift of features, as the stage snapshot wrote them.
    frozen: categories in which a person has stopped automatic removal.
    show_text: whether the report shows the column `text` of the posts that it lists; otherwise their ids alone.
    """

    scores: Path
    thresholds: Path | None = None
    calibration: Path | None = None
    champion_scores: Path | None = None
    behaviour: Path | None = None
    logos: Path | None = None
    features: Path | None = None
    frozen: tuple[Event, ...] = ()
    show_text: bool = False


def of_the_stage(given: Inputs) -> Inputs:
    """The stage's own files for whatever was not named, and the freezes that were pinned: a stage reads nothing that DVC does not know.

    Raises:
        BadUse: data/inputs.json is missing or malformed.
    """
    return replace(
        given,
        thresholds=given.thresholds or THRESHOLDS,
        calibration=given.calibration or CALIBRATION_MAPS,
        champion_scores=given.champion_scores or CHAMPION_SCORES,
        logos=given.logos or LOGO_EVALUATION,
        features=FEATURES,
        frozen=read_inputs(INPUTS).frozen,
    )
