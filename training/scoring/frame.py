"""Score posts of text alone, given as a DataFrame: the door for notebooks and for MLflow's server. Media go through `upheld score`."""

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from upheld.common.errors import BadUse
from upheld.common.params.params import Params
from upheld.feature_store.contracts.tables import UNDETERMINED
from upheld.feature_store.ingest.readers import FileRejected, RawBatch
from upheld.feature_store.ingest.row_checks import Rules, check
from upheld.training.pipeline.bundle import Pipeline
from upheld.training.pipeline.stage1 import NO_MEDIA
from upheld.training.scoring import posts as at_hand

REQUIRED = ("post_id", "text")
ABSENT = {"language": UNDETERMINED, "hashtags": None, "prior_removals": 0}  # what stands for an optional column, and for a null in it
MEDIA = "media"  # a column that is known in order to be refused
NO_TIME = "1970-01-01T00:00:00Z"  # the contract wants one of each post; models read none


class FrameScorer:
    """A loaded model that scores posts of text alone.

    Args:
        model: the loaded bundle.
        params: read are `ingest`, `snapshot` and `language`.
    """

    def __init__(self, model: Pipeline, params: Params) -> None:
        self.policies = model.policies
        self._model = model
        self._rules = Rules(model.policies, params.ingest)
        self._tools = at_hand.Tools(params, model.features)
        if needed := model.fusion.incumbent:
            self._tools.notes.append(
                f"this model reads the score of {needed} beside a post; `upheld score --incumbent` takes it, here is none"
            )

    def predict(self, posts: pd.DataFrame) -> pd.DataFrame:
        """Calibrated probability of violation of each policy, as `upheld score` gives it for the same posts.

        Args:
            posts: post_id (unique; str or int), text (str; null only beside hashtags), and where they are known language (BCP-47 tag; null,
                or without the column, it is recognised), hashtags (list of str, with or without #) and prior_removals (int >= 0, confirmed
                removals of the author's posts so far, which `upheld score` looks up in the ledger). Other columns are not read.

        Returns:
            post_id as given and prob_{policy} (float64 in (0, 1)), in the order of `posts`. What the model cannot use here, such as the
            recognition of languages where its package is missing, is warned of once.

        Raises:
            BadUse: a column is missing, a row breaks the contract, a post_id comes twice, or a post has media.
        """
        missing = [name for name in REQUIRED if name not in posts]
        if missing:
            raise BadUse(f"column {missing[0]} is missing; expected {' and '.join(REQUIRED)}, and where known {', '.join(ABSENT)}")
        if MEDIA in posts and any(_plain(posts[MEDIA])):
            raise BadUse(f"column {MEDIA}: this door carries text alone; score posts with pictures, videos or sound through `upheld score`")
        given = {name: _plain(posts[name]) for name in REQUIRED}
        given["post_id"] = [str(name) if type(name) is int else name for name in given["post_id"]]
        for name, absent in ABSENT.items():
            values = _plain(posts[name]) if name in posts else [None] * len(posts)
            given[name] = [absent if value is None else value for value in values]
        removals = given.pop("prior_removals")
        for row, number in enumerate(removals):
            if isinstance(number, bool) or not isinstance(number, int | float) or number < 0 or not float(number).is_integer():
                raise BadUse(f"row {row + 1}: column prior_removals: expected a whole number from 0 on, found {number!r}")
        rows = at_hand.of_text_alone(self._checked(given, len(posts)), self._tools).assign(prior_removals=[int(n) for n in removals])
        twice = rows.index[rows["post_id"].duplicated()]
        if len(twice):
            raise BadUse(f"row {twice[0] + 1}: column post_id: {rows['post_id'][twice[0]]!r} comes twice; leave one of the rows out")
        for note in self._tools.notes:
            warnings.warn(note, stacklevel=2)
        self._tools.notes.clear()
        return self._model.predict(rows, NO_MEDIA).assign(post_id=posts["post_id"].to_numpy())

    def _checked(self, given: dict[str, list[Any]], num_posts: int) -> Any:
        """The rows in the contract's types; the first bad one ends the work."""
        batch = RawBatch(given | {"created_at": [NO_TIME] * num_posts}, list(range(num_posts)), str, header=True)
        try:
            table, findings = check("posts", batch, self._rules)
        except FileRejected as error:
            raise BadUse(f"{error} ({error.reason})") from error
        bad = np.flatnonzero(~findings.good)
        if len(bad):
            raise BadUse(f"row {bad[0] + 1}: {findings.details[bad[0]]} ({findings.reasons[bad[0]]}); mend the row or leave it out")
        return table


def _plain(column: Iterable[Any]) -> list[Any]:
    """Values as Python's own, missing ones as None; arrays, which Parquet gives for lists, as lists."""
    listed = [value.tolist() if isinstance(value, np.ndarray | np.generic) else value for value in column]
    return [None if pd.api.types.is_scalar(value) and pd.isna(value) else value for value in listed]
