"""What a budget is spent on: the sums, the order in which questions are settled, and whether what is promised comes true."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from score_worlds import settings

from upheld.evaluation.audit import design
from upheld.evaluation.audit.design import Posts, design_below
from upheld.evaluation.cube import build
from upheld.evaluation.statistics import weighted
from upheld.evaluation.thresholds import removal_certificate
from upheld.evaluation.thresholds.tails import tails

AUDIT = settings().audit_sample
SECTION = settings().thresholds


def posts(prob, language="en") -> Posts:
    prob = np.asarray(prob, float)
    return Posts(prob, np.ones(len(prob)), np.full(len(prob), language, object))


def zones(seed: int = 0, *, top: float = 0.985) -> dict[str, Posts]:
    """A scorer whose probabilities are true: 3000 removed, 3000 queued, 40,000 passed."""
    rng = np.random.default_rng(seed)
    removed = rng.beta(200 * top, 200 * (1 - top), 3000)
    return {"auto_remove": posts(removed), "review": posts(rng.beta(6, 4, 3000)), "none": posts(rng.beta(0.3, 60, 40_000))}


cells = st.lists(st.tuples(st.integers(1, 5000), st.integers(0, 3000)), min_size=1, max_size=12)


@given(cells, st.integers(0, 4000), st.integers(0, 2000))
@examples(max_examples=200, deadline=None)
def test_labels_sum_to_the_budget_stay_in_range_and_never_fall_as_it_rises(made, above_least, more) -> None:
    sizes, wants = np.array([size for size, _ in made], float), [want for _, want in made]
    least = sizes.sum() * AUDIT.min_inclusion_prob
    small, large = (design.share_out(wants, sizes, least + extra, AUDIT) for extra in (above_least, above_least + more))
    for labels, budget in ((small, least + above_least), (large, least + above_least + more)):
        assert labels.sum() == pytest.approx(min(budget, sizes.sum()), rel=1e-9)
        assert (labels >= sizes * AUDIT.min_inclusion_prob * (1 - 1e-9)).all()
        assert (labels <= sizes * (1 + 1e-9)).all()
    assert (large >= small - 1e-6 * (1 + small)).all()


def test_the_cheapest_question_is_settled_first_and_half_an_answer_buys_none() -> None:
    labels = design.share_out([90, 300, 2000, 0], np.full(4, 1000.0), 400, AUDIT)
    assert labels == pytest.approx([90, 210, 50, 50])


def test_the_same_rows_in_another_order_want_the_same() -> None:
    made = zones()
    turned = {zone: Posts(*(part[::-1] for part in of)) for zone, of in made.items()}
    for zone, want in design.wanted(made, settings()).items():
        assert design.wanted(turned, settings())[zone].labels == want.labels


def test_what_no_number_of_labels_settles_is_said_and_gets_the_floor_alone() -> None:
    wants = design.wanted(zones(top=0.93), settings())
    assert wants["auto_remove"].labels is None
    assert "More labels cannot certify 95 %" in wants["auto_remove"].reason
    made = {"spam": zones(top=0.93) | {"none": posts(np.random.default_rng(3).beta(0.3, 14, 40_000))}}
    parts = design.allocate(made, {"spam": design.wanted(made["spam"], settings())}, 240, AUDIT)
    assert parts[0].labels == pytest.approx(AUDIT.floor_share * 240 / 3)


def test_languages_are_compared_in_the_queue() -> None:
    two = zones() | {"review": Posts(np.full(3000, 0.6), np.ones(3000), np.array(["en"] * 2900 + ["th"] * 100, object))}
    want = design.wanted(two, settings())["review"]
    assert want.labels == 870  # the draw is flat: to read 29 of 100 Thai posts, 29 % of all are read
    assert "between 2 languages" in want.reason
    assert design.wanted(zones(), settings())["review"].labels == 0


def test_removals_certify_as_often_as_promised() -> None:
    """80 % is promised; weeks are drawn from the very rows, and judged by what `calibrate` and `weekly` run."""
    made, rng = zones(), np.random.default_rng(1)
    want = design.wanted(made, settings())["auto_remove"].labels
    prob = {"auto_remove": want / 3000, "review": 0.3, "none": 0.02}
    score, zone = np.concatenate([made[name].prob for name in prob]), np.repeat(list(prob), [len(made[name].prob) for name in prob])
    drawn_with = pd.Series(zone).map(prob).to_numpy()
    threshold = float(made["auto_remove"].prob.min())
    rows = pd.DataFrame({"category": "spam", "language": "en", "score": score, "inclusion_prob": drawn_with, "zone": zone})
    rows = rows[rows.score >= 0.5]  # what lies below has no say in removal
    certified = 0
    for _ in range(100):
        label = np.where(rng.random(len(rows)) < rows.inclusion_prob, rng.random(len(rows)) < rows.score, np.nan)
        counted = build.build(pa.Table.from_pandas(rows.assign(label=label), preserve_index=False))
        certified += removal_certificate.decide(tails(counted), SECTION, threshold, 3000.0, 0)["outcome"] == "certified"
    assert 0.70 <= certified / 100 <= 0.95


@pytest.mark.parametrize("spread", [20, 14])
def test_recall_certifies_over_the_window_as_often_as_promised(spread) -> None:
    made, rng = zones(), np.random.default_rng(2)
    made["none"] = posts(rng.beta(0.3, spread, 40_000))
    want, weeks = design.wanted(made, settings())["none"].labels, SECTION.window_weeks
    below = made["none"]
    prob = design_below(below.prob, below.num, want, AUDIT)
    found = weeks * sum(made[zone].prob.sum() for zone in ("auto_remove", "review"))
    bounds = []
    for _ in range(300):
        missed = rng.poisson(weeks * below.prob * prob)
        upper = weighted.total_upper((missed / prob).sum(), (missed / prob**2).sum(), (1 / prob).max(), SECTION.delta / 2)
        bounds.append(found / (found + upper))
    assert 0.76 <= (np.array(bounds) >= SECTION.recall_target).mean() <= 0.95
