"""Scoring lanes: what the gate lets pass, what is recorded, and that what is recorded is what computes."""

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from upheld.common.errors import FailedWork
from upheld.training.loop.examples import Array
from upheld.training.text import lanes, model
from upheld.training.text.model import TextModel, in_bfloat16, load_text, predict_text, save_text

TEXTS = ["buy cheap now", "hello friend", "buy now", "friend", "", "hello hello cheap"] * 10


def fast(machine: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (model, lanes):
        monkeypatch.setattr(module, "has_fast_bfloat16", lambda device: machine)


@pytest.fixture
def validated(tiny: ModuleType, tmp_path: Path) -> Path:
    """A saved model whose recorded lane is bf16."""
    ours = tiny.text_model()
    ours.setup = replace(ours.setup, lane="bf16")
    save_text(ours, tmp_path, {})
    return tmp_path


def labelled(num_texts: int = 240) -> tuple[Array, Array, Array, list[str]]:
    """Probabilities, targets and weights of one policy, and languages, that rank well in both."""
    random = np.random.default_rng(1)
    targets = (np.arange(num_texts)[:, None] // 2 % 2).astype(np.float32)
    probs = (0.45 + 0.1 * targets + 0.1 * random.random((num_texts, 1))).astype(np.float32)
    return probs, targets, np.ones_like(targets), ["en", "de"] * (num_texts // 2)


def test_gate_passes_equal_scores_and_names_the_language_whose_ranking_moves() -> None:
    probs, targets, weights, languages = labelled()
    same = lanes.gate(probs, probs.copy(), targets, weights, languages, ["spam"])
    assert (same.reason, same.max_prob_shift, same.auc_shift) == (None, 0.0, {"spam": {"de": 0.0, "en": 0.0}})
    moved = probs.copy()
    de = np.flatnonzero(np.array(languages) == "de")
    moved[de] += 0.04 * (1 - 2 * targets[de])  # within the bound on a probability
    verdict = lanes.gate(probs, moved, targets, weights, languages, ["spam"])
    assert verdict.reason is not None
    assert "ROC-AUC of spam in de" in verdict.reason
    assert verdict.auc_shift["spam"]["en"] == 0
    assert verdict.max_prob_shift == pytest.approx(0.04, abs=1e-6)
    assert verdict.mean_prob_shift == pytest.approx(0.02, abs=1e-6)


def test_gate_counts_known_labels_alone_and_guards_the_rest_by_the_probabilities() -> None:
    probs, targets, weights, languages = labelled()
    weights[np.array(languages) == "de"] = 0
    assert list(lanes.gate(probs, probs, targets, weights, languages, ["spam"]).auc_shift["spam"]) == ["en"]
    for wrong, said in ((probs + np.float32(0.06), "moves by 0.060"), (probs * np.nan, "moves by inf")):
        moved = probs.copy()
        moved[1] = wrong[1]
        verdict = lanes.gate(probs, moved, targets, weights * 0, languages, ["spam"])
        assert verdict.reason is not None
        assert said in verdict.reason
    few = lanes.gate(probs[:20], probs[:20], targets[:20], weights[:20], languages[:20], ["spam"])
    assert few.reason == "split val has 20 texts, 50 are needed to compare"


@pytest.mark.parametrize(
    ("machine", "times", "bias", "lane", "reason"),
    [
        (True, 3.0, 0.0, "bf16", None),
        (True, 1.1, 0.0, "fp32", "bf16 is not 1.2 times as fast as fp32 here"),
        (True, 3.0, 0.5, "fp32", "a probability moves by"),
        (False, 3.0, 0.0, "fp32", "this machine has no fast bfloat16"),
    ],
)
def test_a_lane_is_chosen_by_machine_gate_and_speed(
    tiny: ModuleType, monkeypatch: pytest.MonkeyPatch, machine: bool, times: float, bias: float, lane: str, reason: str | None
) -> None:
    ours: TextModel = tiny.text_model()
    fast(machine, monkeypatch)
    monkeypatch.setattr(lanes, "speedup", lambda *models: times)

    def shifted(one: TextModel) -> TextModel:
        copy = in_bfloat16(one)
        copy.head = torch.nn.Linear(16, 2)
        copy.head.load_state_dict({"weight": one.head.weight, "bias": one.head.bias + bias})
        return copy.eval()

    monkeypatch.setattr(lanes, "in_bfloat16", shifted)
    nothing = np.zeros((len(TEXTS), 2), np.float32)
    record = lanes.choose(ours, TEXTS, nothing, nothing, ["en"] * len(TEXTS))
    assert record["lane"] == ours.setup.lane == lane
    assert record["reason"] == reason or reason in record["reason"]
    assert ours.lane == "fp32"  # its weights are saved as they were trained


def test_the_recorded_lane_computes_and_weights_stay_float32_for_training(validated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fast(True, monkeypatch)
    there, plain = load_text(validated), load_text(validated, "fp32")
    assert (there.setup.lane, there.lane, plain.lane) == ("bf16", "bf16", "fp32")
    assert not np.array_equal(predict_text(there, TEXTS), predict_text(plain, TEXTS))
    assert predict_text(there, TEXTS) == pytest.approx(predict_text(plain, TEXTS), abs=0.01)
    assert {tensor.dtype for tensor in plain.parameters()} == {torch.float32}
    fast(False, monkeypatch)
    elsewhere = load_text(validated)
    assert (elsewhere.setup.lane, elsewhere.lane) == ("bf16", "fp32")
    assert np.array_equal(predict_text(elsewhere, TEXTS), predict_text(plain, TEXTS))


def test_a_model_from_before_lanes_scores_in_fp32_and_an_unknown_lane_is_refused(
    tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast(True, monkeypatch)
    ours = tiny.text_model()
    save_text(ours, tmp_path, {})
    about = json.loads((tmp_path / "metadata.json").read_text())
    del about["setup"]["lane"]
    (tmp_path / "metadata.json").write_text(json.dumps(about))
    assert predict_text(load_text(tmp_path), TEXTS).tobytes() == predict_text(ours, TEXTS).tobytes()
    about["setup"]["lane"] = "int4"
    (tmp_path / "metadata.json").write_text(json.dumps(about))
    with pytest.raises(FailedWork, match="lane 'int4', expected one of fp32, bf16"):
        load_text(tmp_path)
