"""What happens in a video: embeddings of short clips by torchvision's video ResNet, averaged."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from upheld.common.errors import BadUse
from upheld.feature_store.contracts import hashing
from upheld.feature_store.decoding.contract import Arrays, Refused
from upheld.feature_store.decoding.video import Frame, Picture, read_video, upright
from upheld.feature_store.extractors.contract import Extractor, Kind
from upheld.feature_store.extractors.video.frame_sampling import UniformPicks

if TYPE_CHECKING:
    import torch

# What r3d_18 was trained on: clips of 16 frames at 15 frames/s, shrunk to 171 x 128 and cut to the middle 112 x 112; means and
# deviations of [0, 1] values. Source: torchvision R3D_18_Weights.KINETICS400_V1 and its reference training script.
_NUM_FRAMES = 16
_FRAMES_PER_S = 15
_WIDTH, _HEIGHT, _CROP = 171, 128, 112
_MEAN = (0.43216, 0.394666, 0.37645)
_STD = (0.22803, 0.22145, 0.216989)


class Action(Extractor):
    """Mean of the clips' embeddings, of length 1."""

    name: ClassVar[str] = "action"
    kind: ClassVar[Kind] = "video"
    columns: ClassVar[pa.Schema] = pa.schema([("embedding", pa.list_(pa.float32()))])

    @property
    def version(self) -> str:
        """Number of the code's version, digest of the params and of the weights' file, or their name."""
        file = Path(self.params.action.pretrained)
        origin = hashing.of_file(file) if file.is_file() else self.params.action.pretrained
        return "1-" + hashing.of_json([self.params.action.max_clips, self.params.video_bounds.model_dump(), origin])[:12]

    def unavailable(self) -> str | None:
        """That no weights are named, or that the file is missing."""
        name = self.params.action.pretrained
        if not name:
            return "no weights; name them in params action.pretrained (a safetensors file of r3d_18, or KINETICS400_V1)"
        if name.endswith(".safetensors") and not Path(name).is_file():
            return f"params action.pretrained: no file {name!r}"
        return None

    def decode(self, content: bytes) -> Arrays:
        """`clips` uint8 (N, 16, 112, 112, 3), at even steps of time. Raises as `read_video`."""
        clips = _Clips(self.params.action.max_clips)
        read_video(content, self.params.video_bounds, clips.see)
        return {"clips": np.stack([np.stack(clip + clip[-1:] * (_NUM_FRAMES - len(clip))) for clip in clips.picks.kept()])}

    @cached_property
    def _network(self) -> "torch.nn.Module":
        import torch
        from safetensors.torch import load_file
        from torchvision.models.video import R3D_18_Weights, r3d_18

        name = self.params.action.pretrained
        if name.endswith(".safetensors"):
            tensors = load_file(name)
        elif name in R3D_18_Weights.__members__:
            tensors = R3D_18_Weights[name].get_state_dict(progress=False, check_hash=True, weights_only=True)
        else:
            known = ", ".join(R3D_18_Weights.__members__)
            raise BadUse(f"params action.pretrained: expected a safetensors file or one of {known}, got {name!r}")
        network: torch.nn.Module = r3d_18(weights=None)
        network.fc = torch.nn.Identity()
        network.load_state_dict({name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")})
        return network.eval().to("cuda" if torch.cuda.is_available() else "cpu")

    def extract_one(self, arrays: Arrays) -> dict[str, Any] | Refused:
        """Embed a video's clips in one pass."""
        import torch

        pixels = torch.from_numpy(arrays["clips"]).permute(0, 4, 1, 2, 3).float() / 255
        shape = (1, 3, 1, 1, 1)
        pixels = (pixels - torch.tensor(_MEAN).reshape(shape)) / torch.tensor(_STD).reshape(shape)
        with torch.inference_mode():
            mean = self._network(pixels.to(next(self._network.parameters()).device)).mean(0)
        return {"embedding": (mean / mean.norm()).cpu().tolist()}


class _Clips:
    """Clips begun so far; a slow video's frames stand for several of the clip's."""

    def __init__(self, most: int) -> None:
        self.picks: UniformPicks[list[Picture]] = UniformPicks(_NUM_FRAMES / _FRAMES_PER_S, most)
        self._clip: list[Picture] = []
        self._start_s = 0.0

    def see(self, frame: Frame) -> None:
        """Take the next frame of the video."""
        if self.picks.wants(frame.time_s):
            self._clip, self._start_s = [], frame.time_s
            self.picks.keep(frame.time_s, self._clip)
        place = int((frame.time_s - self._start_s) * _FRAMES_PER_S + 0.1)  # containers round times to milliseconds
        num_missing = min(place, _NUM_FRAMES - 1) + 1 - len(self._clip)
        if num_missing > 0:
            left, top = (_WIDTH - _CROP) // 2, (_HEIGHT - _CROP) // 2
            pixels = upright(frame.picture, _WIDTH, _HEIGHT)[top : top + _CROP, left : left + _CROP]
            self._clip += [pixels] * num_missing
