"""Stage `image` on a tiny network: colours to learn, several images a post, and the honest absence of a model."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from upheld.common.errors import BadUse, FailedWork
from upheld.common.params import params
from upheld.feature_store.backbones.devices import best_device
from upheld.feature_store.backbones.image import empty_image_backbone
from upheld.feature_store.contracts import hashing
from upheld.feature_store.decoding import images
from upheld.feature_store.decoding.images import decode_square
from upheld.feature_store.features.table import NO_FEATURES
from upheld.training.image import model as image_model
from upheld.training.image import stage as image
from upheld.training.image.model import load_image, picture_features, predict_image, predict_pictures
from upheld.training.image.stage import augmented
from upheld.training.loop import teacher
from upheld.training.loop.classifier import Result

COLOURS = {"r1": "red", "r2": "#d01010", "b1": "blue", "b2": "#1010c0"}


@pytest.fixture
def world(tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Posts whose red images are spam, and a network that starts from random weights instead of a hub's."""
    tiny.save_snapshot(tmp_path / "snapshot")
    posts, examples = (pd.read_parquet(tmp_path / f"snapshot/{name}.parquet") for name in ("posts", "examples"))
    split = dict(zip(posts.post_id, np.resize(["train", "train", "train", "val"], len(posts)), strict=True))
    spam = examples[(examples.category == "spam") & (examples.hard_label == 1)].post_id
    known = examples[examples.label.notna()].post_id
    random = np.random.default_rng(1)
    pick = [
        [str(random.choice(["r1", "r2"] if post in set(spam) else ["b1", "b2"]))] * (1 + row % 2) for row, post in enumerate(posts.post_id)
    ]
    posts = posts.assign(split=posts.post_id.map(split), image_digests=pick)
    posts["image_digests"] = posts["image_digests"].where(posts.post_id.isin(known), None)
    posts.to_parquet(tmp_path / "snapshot/posts.parquet")
    examples.assign(split=examples.post_id.map(split)).to_parquet(tmp_path / "snapshot/examples.parquet")
    monkeypatch.setattr(image_model, "load_image_backbone", empty_image_backbone)
    return tmp_path


def run(world: Path, tiny: ModuleType, out: str = "image", taught: float = 0.0, features: Any = NO_FEATURES, **changes: Any) -> Result:
    file = Path(__file__).resolve().parents[3] / "params.yaml"
    rates = {"learning_rate": 1e-3, "head_learning_rate": 2e-3, "layer_decay": 1.0}  # of a network that knows nothing yet
    values = {"backbone": f"{tiny.BACKBONE}@{'0' * 40}", "mode": "full", "size": 32, "epochs": 2, **rates, **changes}
    overrides = ["policies=[hate_speech, spam]", *(f"image.{key}={yaml.safe_dump(value)}" for key, value in values.items())]

    def read_images(names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        return ((name, tiny.picture(COLOURS[name])) for name in reversed(names) if name in COLOURS)

    (world / "ngrams").mkdir(exist_ok=True)
    teacher.save_weight(world / "ngrams", taught, {}, {})
    return image.run(
        params.load(file, overrides), world / "snapshot", world / "ngrams", read_images, world / out, world / "store", features
    )


def test_stage_learns_red_from_blue(world: Path, tiny: ModuleType) -> None:
    result = run(world, tiny, epochs=2, learning_rate=0.0003, dropout=0.0)
    assert result.trained
    model = load_image(world / "image")
    assert model is not None
    probs = predict_image(model, [["r1"], [], ["b1"], ["r1", "b1"]], lambda name: tiny.picture(COLOURS[name]))
    assert np.isnan(probs[1]).all()
    assert probs[0, 1] > 0.5 > probs[2, 1]
    logits = np.log(probs / (1 - probs))
    assert logits[3] == pytest.approx((logits[0] + logits[2]) / 2, abs=1e-4)  # the mean of the logits
    assert not list((world / "store/checkpoints").iterdir())


def test_a_head_alone_learns_red_from_blue_on_the_network_as_it_came(world: Path, tiny: ModuleType) -> None:
    result = run(world, tiny, mode="head", head_inverse_l2=1.0)
    assert (result.best_epoch, result.samples_per_s) == (0, None)
    model = load_image(world / "image")
    assert model is not None
    torch.manual_seed(params.load(Path(__file__).resolve().parents[3] / "params.yaml").seed)
    before, pixels = empty_image_backbone(tiny.BACKBONE).network.eval(), torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert model.network(pixels.to(best_device())).cpu() == pytest.approx(before(pixels), abs=1e-5)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in model.network.modules())  # they are in the convolutions

    def picture(name: str) -> images.Picture:
        return decode_square(tiny.picture(COLOURS[name]), 32)

    probs = predict_pictures(model, [["r1"], ["b1"], ["r1", "b1"]], picture)
    assert probs[0, 1] > 0.5 > probs[1, 1]
    seen = picture_features(model, [["r1"], ["b1"], ["r1", "b1"]], picture, [0, 0, 0])
    logits = seen @ model.head.weight.detach().cpu().numpy().T + model.head.bias.detach().cpu().numpy()
    assert probs == pytest.approx(1 / (1 + np.exp(-logits)), abs=1e-5)  # stills count alike, in features as in logits
    alone, together = (
        picture_features(model, [["r1"], ["b1"]], picture, [0, 0]),
        picture_features(model, [["r2", "r1", "b1"]], picture, [2]),
    )
    known = {"r1": alone[0], "b1": alone[1]}
    assert picture_features(model, [["r1"], ["r1", "b1"]], lambda name: 1 / 0, [0, 0], known)[0] == pytest.approx(
        alone[0]
    )  # none is opened
    frames = (alone[0] + alone[1]) / 2
    assert together[0] == pytest.approx((picture_features(model, [["r2"]], picture, [0])[0] + frames) / 2, abs=1e-5)


def test_a_head_is_fitted_on_the_vectors_of_whichever_lane_is_pinned(
    world: Path, tiny: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(world, tiny, mode="head")
    computed = load_image(world / "image")
    assert computed is not None
    monkeypatch.setattr(image, "image_version", lambda backbone, size, lane: (size, lane))
    asked = []

    class Pinned:
        """Vectors in bfloat16 of all pictures, each the same."""

        def vectors(self, name: str, version: tuple[int, str], digests: set[str]) -> dict[str, np.ndarray]:
            asked.append((name, *version))
            return dict.fromkeys(digests, np.ones(computed.head.in_features, np.float32)) if version[1] == "bf16" else {}

    run(world, tiny, out="pinned", features=Pinned(), mode="head")
    assert asked == [("image_embedding", 32, "fp32"), ("image_embedding", 32, "bf16")]
    pinned = load_image(world / "pinned")
    assert pinned is not None
    assert pinned.head.weight.abs().max() < 1e-3 < computed.head.weight.abs().max()  # vectors that are all alike teach nothing


def test_the_model_in_production_teaches_what_reviewers_never_said(world: Path, tiny: ModuleType) -> None:
    """No reviewer speaks of spam in split train; the scores in production do, on pictures of posts that nobody reviewed."""
    unreviewed, served = (pd.read_parquet(world / f"snapshot/{name}.parquet") for name in ("unreviewed", "served"))
    scores = unreviewed["post_id"].map(served.set_index("post_id")["score"])
    unreviewed["image_digests"] = [["r1"] if score > 0.5 else ["b1"] for score in scores]
    unreviewed.to_parquet(world / "snapshot/unreviewed.parquet")
    examples = pd.read_parquet(world / "snapshot/examples.parquet")
    examples[(examples["category"] != "spam") | (examples["split"] != "train")].to_parquet(world / "snapshot/examples.parquet")
    alone = run(world, tiny, out="alone", epochs=2, learning_rate=0.0003, dropout=0.0)
    result = run(world, tiny, taught=1.0, epochs=2, learning_rate=0.0003, dropout=0.0)
    assert result.num_train_posts == alone.num_train_posts + len(unreviewed)
    model = load_image(world / "image")
    assert model is not None
    probs = predict_image(model, [["r1"], ["b1"]], lambda name: tiny.picture(COLOURS[name]))
    assert probs[0, 1] > probs[1, 1] + 0.2


def test_same_inputs_same_bytes(world: Path, tiny: ModuleType) -> None:
    run(world, tiny)
    run(world, tiny, out="again")
    assert hashing.of_folder(world / "image") == hashing.of_folder(world / "again")


def test_a_second_run_decodes_nothing_and_a_killed_one_goes_on_with_the_same_batches(
    world: Path, tiny: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: dict[str, list[Any]] = {"whole": [], "part": []}
    collate = image_model.ImageModel.collate
    stop_at: int | None = None

    def watched(model: Any, pictures: Any, num_frames: Any = None) -> Any:
        if model.training:
            if len(batches[run_now]) == stop_at:
                raise KeyboardInterrupt
            batches[run_now].append(hashing.of_bytes(b"".join(picture.tobytes() for post in pictures for picture in post)))
        return collate(model, pictures, num_frames)

    monkeypatch.setattr(image_model.ImageModel, "collate", watched)
    run_now = "whole"
    run(world, tiny, checkpoint_steps=3)
    monkeypatch.setattr(images, "decode_square", lambda content, size: 1 / 0)  # from now on everything comes out of the shards
    run_now, stop_at = "part", 8
    with pytest.raises(KeyboardInterrupt):
        run(world, tiny, out="again", checkpoint_steps=3)
    stop_at = None
    run(world, tiny, out="again", checkpoint_steps=3)
    assert batches["part"][:8] == batches["whole"][:8]
    assert batches["part"][8:] == batches["whole"][6:]  # from the last checkpoint, after the sixth
    assert hashing.of_folder(world / "again") == hashing.of_folder(world / "image")


def test_frames_of_a_video_count_as_one_picture_the_worst(tiny: ModuleType) -> None:
    model = tiny.image_model()
    colours = ["green", "red", "blue", "white"]
    single = predict_image(model, [[name] for name in colours], tiny.picture)
    together = predict_image(model, [colours, colours[:1], colours[1:]], tiny.picture, [3, 0, 3], batch_size=2)
    still, *frames = np.log(single / (1 - single))
    expected = np.stack([(still + np.max(frames, axis=0)) / 2, still, np.max(frames, axis=0)])
    np.testing.assert_allclose(np.log(together / (1 - together)), expected, atol=1e-5)


def test_a_step_draws_some_frames_and_every_still() -> None:
    names = ["still", *(f"f{number}" for number in range(9))]
    drawn = [image._drawn(names, 9, 3, np.random.default_rng(seed)) for seed in range(40)]
    assert all(post[0] == "still" and len(post) == 4 and post[1:] == sorted(set(post[1:])) for post in drawn)
    assert {name for post in drawn for name in post} == set(names)
    assert image._drawn(names, 3, 3, np.random.default_rng(0)) == names


def test_no_image_no_model_and_says_so(world: Path, tiny: ModuleType) -> None:
    path = world / "snapshot/posts.parquet"
    pd.read_parquet(path).assign(image_digests=None).to_parquet(path)
    result = run(world, tiny)
    assert (result.trained, result.reason) == (False, "no labelled post of split train has an image")
    assert [path.name for path in (world / "image").iterdir()] == ["metadata.json"]
    assert load_image(world / "image") is None


def test_missing_image_is_failed_work_and_leaves_nothing(world: Path, tiny: ModuleType) -> None:
    path = world / "snapshot/posts.parquet"
    posts = pd.read_parquet(path)
    posts["image_digests"] = posts["image_digests"].map(lambda names: names if names is None else [*names, "gone"])
    posts.to_parquet(path)
    with pytest.raises(FailedWork, match="picture gone: not in the store"):
        run(world, tiny)
    assert not (world / "image").exists()
    assert not (world / "store/checkpoints").exists()


def test_damaged_model_is_failed_work(world: Path, tiny: ModuleType) -> None:
    run(world, tiny)
    (world / "image/upheld.safetensors").write_bytes(b"x")
    with pytest.raises(FailedWork, match="not a readable image model"):
        load_image(world / "image")


def test_batch_norms_keep_their_statistics(tiny: ModuleType) -> None:
    model = tiny.image_model().train()
    before = {name: tensor.clone() for name, tensor in model.named_buffers()}
    model(**model.collate([[decode_square(tiny.picture("red"), 32)]] * 3))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.named_buffers())


def test_pictures_are_squeezed_not_cut_and_augmented_by_seed(tiny: ModuleType) -> None:
    picture = decode_square(tiny.picture("red"), 48)
    assert picture.shape == (48, 48, 3)
    assert (picture == [255, 0, 0]).all()
    noise = np.random.default_rng(0).integers(0, 255, (48, 48, 3)).astype(np.uint8)
    first, again, other = (augmented(noise, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()
    assert first.shape == noise.shape


def test_activations_computed_again_give_the_same_model_and_are_not_kept(world: Path, tiny: ModuleType) -> None:
    plain, saving = (
        run(world, tiny, out, gradient_checkpointing=again, dropout=0.0) for out, again in (("plain", False), ("saving", True))
    )
    assert plain.val is not None
    assert saving.val is not None
    assert saving.val["loss"] == pytest.approx(plain.val["loss"], rel=1e-4)
    network = empty_image_backbone(tiny.BACKBONE).network
    kept = []
    for again in (False, True):
        network.set_grad_checkpointing(again)
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, sizes=sizes: sizes.append(tensor.numel()) or tensor, lambda tensor: tensor
        ):
            network(torch.zeros(2, 3, 32, 32, requires_grad=True))
        kept.append(sum(sizes))
    assert kept[1] < 0.7 * kept[0]


def test_a_network_that_cannot_compute_its_activations_again_is_refused(world: Path, tiny: ModuleType) -> None:
    with pytest.raises(BadUse, match=r"image\.gradient_checkpointing: 'torchvision/mobilenet_v3_small' keeps its activations"):
        run(world, tiny, gradient_checkpointing=True, backbone="torchvision/mobilenet_v3_small")


def test_training_against_attacks_learns_something_else_each_time_alike(world: Path, tiny: ModuleType) -> None:
    """Of pixels that may move by 8 of 255 in every step; a head alone cannot learn from them."""
    weights = []
    for out, eps in (("plain", 0.0), ("hardened", 8.0), ("again", 8.0)):
        run(world, tiny, out=out, adversarial_eps=eps)
        model = load_image(world / out)
        assert model is not None
        weights.append(model.head.weight)
    assert torch.equal(weights[1], weights[2]) and not torch.equal(weights[0], weights[1])
    with pytest.raises(BadUse, match=r"image\.adversarial_eps.*image\.mode=head-then-full"):
        run(world, tiny, mode="head", adversarial_eps=8.0)
