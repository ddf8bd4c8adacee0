"""How much of a snapshot's posts the feature store knows, per extractor and language, and why it does not know the rest."""

from collections import Counter
from typing import Any

import pandas as pd

from upheld.feature_store.features.pinned import PinnedFeatures

ALL = "all"
CONTENTS = {"text": "caption_digest", "image": "image_digests", "video": "video_digests", "audio": "sound_digests"}  # by what is read


def coverage(posts: pd.DataFrame, features: PinnedFeatures) -> list[dict[str, Any]]:
    """Count the posts whose contents have an extractor's features.

    Args:
        posts: language, and the digests of their contents by kind: caption_digest (or null), and the lists image_digests,
            video_digests, sound_digests.
        features: the pinned tables.

    Returns:
        for each extractor and language (and `all`) with at least one post that has such contents: feature, language, posts, present
        (every content has features), quarantined (one was refused), missing (one was not looked at), share (present of posts) and
        reasons (reason -> posts that met it). Sorted; every post is counted in one of present, quarantined, missing.
    """
    found = []
    for name, kind in sorted(features.kinds.items()):
        contents = posts[CONTENTS[kind]].map(lambda names: names if isinstance(names, list) else [names] if isinstance(names, str) else [])
        contents = contents[contents.map(len) > 0]
        reasons = {
            digest: row["reason"] for digest, row in features.rows(name, {d for names in contents for d in names}, ["reason"]).items()
        }
        states = contents.map(lambda names, reasons=reasons: _state(names, reasons))
        languages = posts.loc[contents.index, "language"]
        for language in [ALL, *sorted(languages.unique())] if len(contents) else []:
            found.append(_cell(name, language, states if language == ALL else states[languages == language]))
    return found


def _state(names: list[str], reasons: dict[str, str | None]) -> tuple[str, frozenset[str]]:
    refused = frozenset(reason for name in names if (reason := reasons.get(name)) is not None)
    if refused:
        return "quarantined", refused
    return ("present" if all(name in reasons for name in names) else "missing"), refused


def _cell(name: str, language: str, states: "pd.Series[Any]") -> dict[str, Any]:
    counts = Counter(state for state, _ in states)
    reasons = Counter(reason for _, refused in states for reason in refused)
    whole = {state: counts[state] for state in ("present", "quarantined", "missing")}
    share = counts["present"] / len(states)
    return {"feature": name, "language": language, "posts": len(states), **whole, "share": share, "reasons": dict(sorted(reasons.items()))}
