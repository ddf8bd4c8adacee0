"""Turns human-review outcomes into retrained, calibrated, fair and traceable content-moderation models.

The packages lie at the top of the repository and are linked into this folder, so that there is one importable name, `upheld`,
and a run's workspace, which copies folders and links alike, imports its own copy.
"""

from pathlib import Path

__version__ = "0.1.0"
ROOT = Path(__file__).resolve().parents[1]  # what this copy of the code lies in: a checkout, a run's workspace, or site-packages
