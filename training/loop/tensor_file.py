"""Name of the file that holds a trained model's tensors: one by which no other library takes them for its own.

From a `model.safetensors` in which it finds none of the tensors that it knows, `from_pretrained` of transformers makes a network with
weights drawn at random, and only warns. Without one it refuses the folder, and so does timm.
"""

from pathlib import Path

NAME = "upheld.safetensors"
NAME_BEFORE = "model.safetensors"  # in folders that were saved before


def saved(folder: Path) -> Path:
    """The file of tensors in a model's folder."""
    return folder / (NAME if (folder / NAME).exists() else NAME_BEFORE)
