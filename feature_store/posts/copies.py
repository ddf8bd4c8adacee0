"""Which pictures and sounds of posts are copies of one another although their files differ: encoded anew, resized, cut."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pandas as pd

from upheld.common.params.data import Splits
from upheld.common.params.extractors import AudioFingerprint
from upheld.feature_store.extractors.audio.fingerprint import Fingerprint, compare, is_same
from upheld.feature_store.features.table import PinnedFeatures
from upheld.feature_store.splits.groups import DisjointSets
from upheld.feature_store.splits.near_pictures import near_pictures

# Below it a hash tells little of the picture. Source: "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm".
MIN_QUALITY = 50
MAX_SOUNDS = 256  # a landmark in more sounds than these is a beep or a hum that tells nothing


def copies_of(posts: pd.DataFrame, features: PinnedFeatures, settings: Splits, sounds: AudioFingerprint) -> dict[str, str]:
    """Name the sets of pictures, and of sounds, that are copies of one another; a chain of copies is one set.

    Args:
        posts: image_digests and sound_digests, lists of digests; key frames of videos are among the pictures.
        features: the pinned tables; without `image_hash` or `audio_fingerprint` no copies of that kind are known.
        settings: `max_picture_distance`, in bits of 256.
        sounds: how much of two sounds must agree.

    Returns:
        digest -> smallest digest of its set, of every content that has a copy.
    """
    pictures, heard = ({name for names in posts[column] for name in names} for column in ("image_digests", "sound_digests"))
    rows = features.rows("image_hash", pictures, ["pdq", "pdq_quality"])
    hashes = {name: row["pdq"] for name, row in rows.items() if row["pdq"] is not None and row["pdq_quality"] >= MIN_QUALITY}
    images = pd.DataFrame({"digest": list(hashes), "pdq": list(hashes.values())}, dtype="str")
    found = dict(zip(images["digest"], near_pictures(images, settings.max_picture_distance), strict=True)) if len(images) else {}
    prints = features.rows("audio_fingerprint", heard, ["hashes", "times"])
    landmarks = {
        name: Fingerprint(np.array(row["hashes"], np.uint32), np.array(row["times"], np.int32))
        for name, row in sorted(prints.items())
        if row["hashes"]
    }
    names = list(landmarks)
    sets, holders = DisjointSets(len(names)), dict[int, list[int]]()
    for place, name in enumerate(names):
        distinct = np.unique(landmarks[name].hashes).tolist()
        lists = [holders.setdefault(landmark, []) for landmark in distinct]
        common = Counter(other for known in lists if len(known) <= MAX_SOUNDS for other in known)
        for other in sorted(other for other, number in common.items() if number >= sounds.min_aligned):
            if sets.find(other) != sets.find(place) and is_same(compare(landmarks[names[other]], landmarks[name]), sounds):
                sets.union(other, place)
        for known in lists:
            known.append(place)
    return _shared(found) | _shared({name: names[root] for name, root in zip(names, sets.labels(), strict=True)})


def _shared(sets: Mapping[str, str]) -> dict[str, str]:
    """The contents that are not alone in their set."""
    sizes = Counter(sets.values())
    return {name: root for name, root in sets.items() if sizes[root] > 1}
