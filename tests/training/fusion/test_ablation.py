"""What fusion says without a source, by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from upheld.training.fusion import ablation
from upheld.training.fusion import model as fusion_model
from upheld.training.fusion.model import PolicyFusion

LEARNT = PolicyFusion(
    intercept=-1.0,
    coefficients={"text_logit": 1.0, "image_logit": 0.5, "image_missing": 0.3, "context_excess": 2.0, "logo_count_acme": 1.0},
    base_rate_logit=-2.0,
    num_positive=9,
    num_negative=9,
    reason=None,
    left_out=("ngrams", "audio"),
)


def rows(num: int) -> pd.DataFrame:
    random = np.random.default_rng(1)
    table = pd.DataFrame({"post_id": [f"p{n:02d}" for n in range(num)], "prior_removals": 3, "num_hashtags": 1, "has_link": True})
    for member in ("text", "image"):
        table[f"prob_{member}_spam"] = expit(random.normal(size=num))
    table["context_excess"] = [[("spam", value)] for value in random.normal(size=num)]
    return table.assign(logo_count_acme=0, logo_confidence_acme=0.0, logo_area_acme=0.0)


def test_each_source_is_left_out_or_changes_places_and_the_rest_stands() -> None:
    table = rows(30)
    labels = pd.DataFrame({"post_id": table.post_id[::-1], "policy": "spam", "label": True, "weight": 2.0})
    found = ablation.ablated(table, labels.iloc[:-1], {"spam": LEARNT})
    shuffled = ablation.ablated(table.sample(frac=1, random_state=3), labels.iloc[:-1], {"spam": LEARNT})
    pd.testing.assert_frame_equal(shuffled, found)
    posts = table[table.post_id.isin(labels.post_id.iloc[:-1])].reset_index(drop=True)
    whole = fusion_model.apply({"spam": LEARNT}, posts).prob_spam
    # Marks that no post shows, and an author or hashtags without a coefficient, change nothing: they are absent.
    assert set(found.source) == {"text", "image", "context"}
    assert found.groupby("source").size().eq(29).all() and found.weight.eq(2.0).all()
    for source, part in found.groupby("source"):
        assert part.post_id.tolist() == posts.post_id.tolist() and part.prob.to_numpy() == pytest.approx(whole.to_numpy())
        assert (part.prob != part.prob_without).mean() > 0.8, source
    without = found[found.source == "image"].prob_without.to_numpy()
    by_hand = fusion_model.apply({"spam": LEARNT}, posts.assign(prob_image_spam=np.nan)).prob_spam
    assert without == pytest.approx(by_hand.to_numpy())
    moved = found[found.source == "context"].prob_without.to_numpy()
    rest = np.log(whole / (1 - whole)) - 2 * np.array([dict(value)["spam"] for value in posts.context_excess])
    excess = (np.log(moved / (1 - moved)) - rest) / 2
    assert sorted(excess) == pytest.approx(sorted(dict(value)["spam"] for value in posts.context_excess))


def test_marks_of_all_brands_change_places_together() -> None:
    table = rows(20).assign(logo_count_acme=np.arange(20) % 2, logo_count_zeta=np.arange(20) % 2)
    assert ablation._columns(table, ablation.OTHERS["marks"]) == [
        "logo_count_acme",
        "logo_confidence_acme",
        "logo_area_acme",
        "logo_count_zeta",
    ]
    labels = pd.DataFrame({"post_id": table.post_id, "policy": "spam", "label": True, "weight": 1.0})
    assert "marks" in set(ablation.ablated(table, labels, {"spam": LEARNT}).source)


def test_without_labelled_posts_there_is_an_empty_table() -> None:
    nobody = pd.DataFrame({"post_id": [], "policy": [], "label": [], "weight": []}).astype({"post_id": "str", "policy": "str"})
    assert ablation.ablated(rows(3), nobody, {"spam": LEARNT}).empty
