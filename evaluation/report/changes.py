"""What is different from what is in force, in plain words: thresholds, and the champion's results on the same posts."""

from collections.abc import Iterator, Mapping
from typing import Any

from upheld.evaluation.report.words import capital, listed, name_of

Story = Mapping[str, Any]


def changed(story: Story) -> list[str]:
    """What is different from what is in force: thresholds, and the champion's results on the same posts."""
    together: dict[str, list[str]] = {}
    for category in story["categories"]:
        for line in (*_threshold_changes(category), *_model_changes(category)):
            together.setdefault(line, []).append(name_of(category))
    lines = [capital(f"{listed(names)}: {line}") for line, names in together.items()]
    return lines or ["Nothing to compare with: there is no champion, and no thresholds were in force."]


def _threshold_changes(category: Story) -> Iterator[str]:
    for action, name in (("auto_remove", "automatic removal"), ("review", "review")):
        told = (category["certificates"] or {}).get(action)
        if told is None:
            continue
        old, new = told.get("incumbent"), told["threshold"]
        if old is None and new is not None:
            yield f"{name} starts at {new:.3f} ({told['outcome']})."
        elif old is not None and new is None:
            yield f"{name} stops; it was at {old:.3f} ({told['outcome']})."
        elif old is not None and abs(old - new) > 1e-9:
            yield f"{name} moves from {old:.3f} to {new:.3f} ({told['outcome']})."


def _model_changes(category: Story) -> Iterator[str]:
    row = category["metrics"].get("roc_auc_change")
    if row is None:
        return
    posts = f"on the same {row['n']:,} labelled posts"
    if row["value"] is None:
        yield f"ranking cannot be compared with the champion's {posts} ({row['reason']})."
        return
    verdict = (
        "better than the champion's"
        if row["ci_low"] > 0
        else "worse than the champion's"
        if row["ci_high"] < 0
        else "no different from the champion's"
    )
    sure = "" if verdict != "no different from the champion's" else ", as far as can be told"
    yield f"ranking {verdict} {posts}{sure}: ROC-AUC {row['value']:+.3f} ({row['ci_low']:+.3f} to {row['ci_high']:+.3f})."
