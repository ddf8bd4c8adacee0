"""Which CLIP weights there are, told without loading any."""

import importlib.util
from pathlib import Path

from upheld.common.params.extractors import Clip
from upheld.feature_store.contracts import hashing


def lacking(settings: Clip) -> str | None:
    """Why CLIP cannot run here, in words that say what to do; None where it can."""
    if settings.pretrained is None:
        return "no weights: set clip.pretrained to a folder, a .safetensors file or a tag of open_clip's"
    if importlib.util.find_spec("open_clip") is None:
        return "package open_clip is not installed; run `make setup`"
    path = Path(settings.pretrained)
    if path.is_dir() and not ((path / "open_clip_config.json").is_file() and any(path.glob("*.safetensors"))):
        return f"{path}: expected open_clip_config.json and *.safetensors"
    if path.is_file() and path.suffix != ".safetensors":
        return f"{path}: expected a .safetensors file; other formats can run code when they are loaded"
    return None


def settings_and_weights(settings: Clip) -> dict[str, str]:
    """What CLIP's results depend on: architecture, and digest of the weights or the name that they come by."""
    path = Path(str(settings.pretrained))
    weights = hashing.of_folder(path) if path.is_dir() else hashing.of_file(path) if path.is_file() else str(settings.pretrained)
    return {"model": settings.model, "weights": weights}
