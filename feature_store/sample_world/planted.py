"""Posts of the sample world that neither their text nor their picture tells apart: the board does, or both together."""

from dataclasses import dataclass
from typing import Final

from upheld.feature_store.sample_world import pictures
from upheld.feature_store.sample_world.base import stream

# One picture of violence, two boards, two truths: a report here, and against the policy there.
BOARDS: Final = {"board:news": False, "board:family": True}
BOARD_POLICY: Final = "graphic_violence"
_POOL = 40  # pictures a week that go round on both boards
# A remark that harms nobody, under a picture that harms nobody, which together mean somebody.
JOINT_POLICY: Final = "hate_speech"
JOINT_KIND: Final = "sign"
_OTHER_KIND: Final = "scene"


@dataclass(frozen=True)
class Planted:
    """What takes the place of a post's text, media and board.

    Attributes:
        stance: that its text, a borderline remark, takes towards JOINT_POLICY under this picture; None: the text tells nothing.
        picture: a JPEG.
        context_id: the board; None: where the post stands anyhow.
        broken: policies that the picture breaks where it stands.
    """

    stance: str | None
    picture: bytes
    context_id: str | None
    broken: frozenset[str]


def planted(seed: int, week: int, post_id: str, share: float) -> Planted | None:
    """What is planted in the place of a post, from a random stream of its own, so that the rest of the world is the same with and without.

    Args:
        seed: of the world.
        week: its number.
        post_id: of the post.
        share: of the posts that are planted, half of either sort.
    """
    rng = stream(seed, "planted", week, post_id)
    if rng.random() >= share:
        return None
    if rng.random() < 0.5:
        board = rng.choice(list(BOARDS))
        picture = pictures.draw("gore", stream(seed, "planted picture", week, rng.randrange(_POOL)))
        return Planted(None, picture, board, frozenset({BOARD_POLICY} if BOARDS[board] else ()))
    kind = rng.choice((JOINT_KIND, _OTHER_KIND))
    stance = None if rng.random() < 0.5 else "veiled" if kind == JOINT_KIND else "borderline"
    return Planted(stance, pictures.draw(kind, rng), None, frozenset())
