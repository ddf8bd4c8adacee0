"""Video and sound are decoded by workers that hold no weights: what they need must work there, and torch must stay out."""

import subprocess
import sys

import numpy as np
import pytest

from tests.feature_store.deliveries import ROOT, parameters
from tests.feature_store.extractors import clips
from upheld.feature_store.decoding.contract import Refused
from upheld.feature_store.extractors.catalogue import EXTRACTORS, make
from upheld.feature_store.sandbox.pool import DecodePool

OURS = ("keyframes", "motion", "action", "speech", "transcript", "spectrogram", "audio_fingerprint")


@pytest.mark.parametrize("name", ["keyframes", "motion", "action", "speech"])
def test_a_confined_worker_decodes_the_same(name: str) -> None:
    params = parameters()
    content = clips.video(clips.distinct_scenes(np.random.default_rng(0), [15, 15]), sound=clips.melody(0, 1.2))
    with DecodePool(EXTRACTORS[name], params, 60.0, 1) as pool:
        good, bad = pool.decode([content, content[:3000]], 2)
    assert isinstance(bad, Refused)
    assert bad.reason in ("video_corrupt", "audio_corrupt")
    assert not isinstance(good, Refused)
    expected = make(name, params).decode(content)
    assert good.keys() == expected.keys()
    for key, array in expected.items():
        np.testing.assert_array_equal(good[key], array)


def test_modules_and_versions_load_no_torch() -> None:
    code = (
        "import sys; from pathlib import Path; from upheld.common.params import params; "
        "from upheld.feature_store.extractors.catalogue import make; "
        f"loaded = params.load(Path('params.yaml')); [make(name, loaded).version for name in {OURS!r}]; "
        "sys.exit('torch' in sys.modules or 'faster_whisper' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
