"""Attacks on pictures stay where they must, and raise the loss that they are to raise."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from upheld.training.image.model import predict_pictures
from upheld.training.robustness import pictures

NUM_POSTS = 12


@pytest.fixture(scope="module")
def model(tiny):
    """A network whose head is far from flat, so that its loss has slopes."""
    model = tiny.image_model()
    with torch.no_grad():
        model.head.weight.mul_(20)
    return model


def shown(seed=0, num_posts=NUM_POSTS):
    """Posts of one to three pictures, of which the last may be frames, with extreme values among theirs."""
    random = np.random.default_rng(seed)
    smooth = [
        [np.kron(random.integers(0, 256, (4, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8) for _ in range(1 + number % 3)]
        for number in range(num_posts)
    ]
    return smooth, [number % 3 if number % 2 else 0 for number in range(num_posts)]


def batch(model, rows=range(NUM_POSTS)):
    posts, frames = shown()
    column, label = np.arange(NUM_POSTS) % 2, np.arange(NUM_POSTS) % 4 < 2
    rows = list(rows)
    return pictures.batch_of(model, [posts[row] for row in rows], [frames[row] for row in rows], column[rows], label[rows])


def draws(rows=range(NUM_POSTS)):
    return [np.random.default_rng(row) for row in rows]


def test_unchanged_pixels_score_as_the_classifier_scores_the_pictures(model) -> None:
    posts, frames = shown()
    named = {f"{row}-{place}": picture for row, post in enumerate(posts) for place, picture in enumerate(post)}
    digests = [[f"{row}-{place}" for place in range(len(post))] for row, post in enumerate(posts)]
    expected = predict_pictures(model, digests, named.__getitem__, frames)[np.arange(NUM_POSTS), np.arange(NUM_POSTS) % 2]
    own = batch(model)
    np.testing.assert_allclose(pictures.probabilities(own, own.pixels), expected, atol=2e-6)


@settings(max_examples=6, deadline=None)
@given(eps=st.floats(0.1, 20), steps=st.integers(1, 4))
def test_the_gradient_attacks_stay_in_the_ball_and_in_the_picture(model, eps, steps) -> None:
    own = batch(model, range(5))
    for changed in (pictures.fgsm(own, eps / 255), pictures.pgd(own, eps / 255, steps, draws(range(5)))):
        assert float((changed - own.pixels).abs().max()) <= eps / 255 + 1e-6
        assert float(changed.min()) >= 0 and float(changed.max()) <= 1
        assert not torch.equal(changed, own.pixels)


def test_pgd_raises_the_loss_more_than_fgsm_and_both_more_than_noise(model) -> None:
    own, eps = batch(model), 4 / 255
    noise = torch.from_numpy(np.random.default_rng(0).choice([-eps, eps], tuple(own.pixels.shape)).astype(np.float32))
    moved = [(own.pixels + noise).clamp(0, 1), pictures.fgsm(own, eps), pictures.pgd(own, eps, 10, draws())]
    with torch.no_grad():
        clean, by_noise, by_fgsm, by_pgd = (own.losses(pixels).numpy() for pixels in (own.pixels, *moved))
    assert (by_fgsm > clean).mean() > 0.9
    assert by_fgsm.mean() - clean.mean() > 3 * abs(by_noise.mean() - clean.mean())
    assert by_pgd.mean() > by_fgsm.mean() > clean.mean()


def test_violations_are_pushed_down_and_others_up(model) -> None:
    own = batch(model)
    before, after = (pictures.probabilities(own, pixels) for pixels in (own.pixels, pictures.pgd(own, 4 / 255, 5, draws())))
    label = np.arange(NUM_POSTS) % 4 < 2
    assert after[label].mean() < before[label].mean()
    assert after[~label].mean() > before[~label].mean()


def test_a_post_s_attack_is_its_own(model) -> None:
    own, rows = batch(model), [9, 2]
    some = batch(model, rows)
    place = np.concatenate([np.flatnonzero(own.owner.numpy() == row) for row in rows])
    whole, part = pictures.pgd(own, 4 / 255, 3, draws()), pictures.pgd(some, 4 / 255, 3, draws(rows))
    differ = np.abs(part.numpy() - whole.numpy()[place]) > 1e-5
    assert differ.mean() < 0.005  # where a slope is next to nothing, rounding decides on its sign
    np.testing.assert_allclose(pictures.probabilities(some, part), pictures.probabilities(own, whole)[rows], atol=1e-3)
    whole, counts = pictures.single_pixels(own, 5, 8, draws())
    part, own_counts = pictures.single_pixels(some, 5, 8, draws(rows))
    np.testing.assert_array_equal(part.numpy(), whole.numpy()[place])
    assert own_counts.tolist() == counts[rows].tolist()


def test_few_pixels_change_and_never_for_the_better(model) -> None:
    own = batch(model)
    changed, counts = pictures.single_pixels(own, 5, 20, draws())
    differ = (changed != own.pixels).any(1).sum((1, 2)).numpy()
    assert differ.max() <= 5
    assert counts.tolist() == [int(differ[own.owner.numpy() == row].sum()) for row in range(NUM_POSTS)]
    assert float(changed.min()) >= 0 and float(changed.max()) <= 1
    with torch.no_grad():
        assert bool((own.losses(changed) >= own.losses(own.pixels) - 1e-5).all())
    more, _ = pictures.single_pixels(own, 5, 40, draws())
    with torch.no_grad():
        assert own.losses(more).mean() > own.losses(changed).mean() > own.losses(own.pixels).mean()


def test_jpeg_is_pillow_s(tiny) -> None:
    picture = shown()[0][0][0]
    for quality in (30, 90):
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, format="JPEG", quality=quality)
        with Image.open(io.BytesIO(stream.getvalue())) as stored:
            np.testing.assert_array_equal(pictures.jpeg(picture, quality), np.array(stored))
    assert not np.array_equal(pictures.jpeg(picture, 30), pictures.jpeg(picture, 90))
