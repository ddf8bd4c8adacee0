"""What the members and the ensemble say of posts whose text or pictures were attacked."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd

from upheld.common.arrays import Floats32
from upheld.feature_store.posts.text_normalisation import normalised
from upheld.training.fusion import model as fusion_model
from upheld.training.ngrams.model import NgramModel, predict_ngrams
from upheld.training.text.model import TextModel, predict_text

ENSEMBLE: Final = "ensemble"


class Judge:
    """Members that judge texts, and the fusion over all members. A text is scored once, however often it is asked about."""

    def __init__(
        self,
        text: TextModel,
        ngrams: NgramModel | None,
        layers: Mapping[str, fusion_model.PolicyFusion],
        rows: pd.DataFrame,
        batch_size: int,
    ) -> None:
        """Args: the members; what fusion learnt of each policy; post_id (unique) and what `fusion.model.apply` reads of the posts as they
        are; texts in one forward pass."""
        self._text, self._ngrams, self._layers, self._batch_size = text, ngrams, layers, batch_size
        self._rows = rows.set_index("post_id", drop=False)
        self._said: dict[str, dict[str, Floats32]] = {"text": {}, "ngrams": {}}

    def before(self, member: str, posts: Sequence[str], policy: str) -> Floats32:
        """What stage 1, or the ensemble, says of posts as they are, float32 (N,); NaN where the member does not judge them."""
        if member == ENSEMBLE:
            return self.fused(posts, [policy] * len(posts), {})
        return self._rows.loc[list(posts), f"prob_{member}_{policy}"].to_numpy(np.float32, na_value=np.nan)

    def of_texts(self, member: str, posts: Sequence[str], policies: Sequence[str], texts: Sequence[str]) -> Floats32:
        """Probability of a violation with a text in place of a post's own.

        Args:
            member: text, ngrams or ensemble.
            posts: N ids, repeated as often as need be.
            policies: the policy that each is asked about.
            texts: as people wrote them: they are spelt as every text that the models read.

        Returns:
            float32 (N,); NaN where the member does not know the policy.
        """
        if member == ENSEMBLE:
            return self.fused(posts, policies, {name: self.of_texts(name, posts, policies, texts) for name in self._said})
        model = self._text if member == "text" else self._ngrams
        columns = {policy: column for column, policy in enumerate(model.setup.policies if model else ())}
        spelt, said = [normalised(text) for text in texts], self._said[member]
        new = sorted(set(spelt) - said.keys())
        if new and model is not None:
            probs = predict_text(model, new, self._batch_size) if isinstance(model, TextModel) else predict_ngrams(model, new)
            said.update(zip(new, probs, strict=True))
        pairs = zip(spelt, policies, strict=True)
        return np.array([said[text][columns[policy]] if policy in columns else np.nan for text, policy in pairs], np.float32)

    def fused(self, posts: Sequence[str], policies: Sequence[str], said: Mapping[str, Floats32]) -> Floats32:
        """What the ensemble says when some members speak of something else than the posts as they are.

        Args:
            posts: N ids.
            policies: the policy that each is asked about.
            said: member -> probability for each, float32 (N,); the other members keep to what they said in stage 1.

        Returns:
            float32 (N,), not calibrated, as in the stage fusion's table.
        """
        probs = np.empty(len(posts), np.float32)
        asked = np.array(policies, object)
        for policy in sorted(set(policies)):
            here = np.flatnonzero(asked == policy)
            rows = self._rows.loc[np.array(posts, object)[here]].reset_index(drop=True)
            rows = rows.assign(**{f"prob_{member}_{policy}": values[here] for member, values in said.items()})
            probs[here] = fusion_model.apply({policy: self._layers[policy]}, rows)[f"prob_{policy}"]
        return probs
