"""Posts that must not be told apart by the split they are in: same author, media file, near-duplicate text or small context."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from upheld.common.params.data import Splits
from upheld.feature_store.splits.disjoint_sets import DisjointSets
from upheld.feature_store.splits.near_duplicates import near_duplicates, normalised

# A thousand posts may hold a group of ten at 1 %; in smaller snapshots groups of ten are kept together as well.
MIN_GROUP_SIZE = 10


class Grouped(NamedTuple):
    """Groups of posts, and the keys that were too common to group by."""

    posts: pd.DataFrame
    spanning: dict[str, int]


def group(posts: pd.DataFrame, params: Splits) -> Grouped:
    """Join posts that share a key.

    A key value with more than `max_group_share` of the posts groups nothing: its posts may be in any split. Nor does one whose posts, with
    all that is joined already, would make up more than `max_linked_share`. The keys that give a label away most come first: text, media,
    author, context; within a key the order of its values.

    Args:
        posts: one row per post, any order: post_id, created_at, text (str, may be blank), image_digests and audio_digests (list of
            str), author_id, context_id (str or null).
        params: section `splits`.

    Returns:
        posts: post_id, content_id and group_id, by post_id. Posts with the same content_id share text or media; content_id and group_id are
            the post_id of the earliest member.
        spanning: key name -> how many of its values grouped nothing.
    """
    posts = posts.sort_values(["created_at", "post_id"], ignore_index=True)  # the smallest number of a set is its earliest post
    sets, spanning = DisjointSets(len(posts)), {}
    largest = max(MIN_GROUP_SIZE, int(params.max_group_share * len(posts)))
    most_linked = max(largest, int(params.max_linked_share * len(posts)))
    names = posts["post_id"].to_numpy()
    forms = posts.set_index("post_id")["text"].map(normalised)
    contents = {  # values by the post's row number; a post may have several or none
        "exact_text": forms.where(forms != "").set_axis(posts.index),
        "near_text": posts["post_id"].map(near_duplicates(forms, params.min_text_similarity)),
        "image_digest": posts["image_digests"].explode(),
        "audio_digest": posts["audio_digests"].explode(),
    }
    for name, values in contents.items():
        spanning[name] = _join(sets, values, largest, most_linked)
    content = names[sets.labels()]
    for name in ("author_id", "context_id"):
        spanning[name] = _join(sets, posts[name], largest, most_linked)
    table = pd.DataFrame({"post_id": names, "content_id": content, "group_id": names[sets.labels()]})
    return Grouped(table.sort_values("post_id", ignore_index=True), spanning)


def _join(sets: DisjointSets, values: "pd.Series[str]", largest: int, most_linked: int) -> int:
    """Join the rows that share a value, unless they are too many; returns the number of values left alone."""
    num_spanning = 0
    shared = values[values.notna() & values.duplicated(keep=False)]
    for _, rows in shared.groupby(shared.to_numpy(), sort=True):
        members = np.unique(rows.index).tolist()
        if len(members) > largest or sets.size_of_union(members) > most_linked:
            num_spanning += 1
            continue
        for member in members[1:]:
            sets.union(members[0], member)
    return num_spanning
