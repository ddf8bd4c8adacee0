"""Read data/attacks.parquet, what the models said of posts before and after each attack, and refuse what breaks its contract."""

from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pyarrow as pa

from upheld.common.errors import BadUse
from upheld.common.params.evaluation import ImageAttack, TextAttack
from upheld.evaluation.metrics.rows import ALL

TEXT, IMAGE = "text", "image"
MODALITIES = dict.fromkeys(get_args(TextAttack), TEXT) | dict.fromkeys(get_args(ImageAttack), IMAGE)  # attack -> what it changes
ENSEMBLE = "ensemble"
MEMBERS = ("text", "ngrams", "image", ENSEMBLE)
KEY = ["post_id", "policy", "attack", "member"]
TYPES = {
    **dict.fromkeys((*KEY, "language", "modality"), "str"),
    "label": "bool",
    "weight": "float64",
    **dict.fromkeys(("clean_prob", "attacked_prob"), "float64"),
    "edits": "int64",
}


def read(path: Path) -> pd.DataFrame:
    """Read the table; it may have no row.

    Args:
        path: Parquet file with one row a post, policy, attack and member: post_id, language, policy, modality (text or image), attack,
            member (text, ngrams, image or ensemble), label (whether it is a violation), weight (1 / inclusion probability), clean_prob and
            attacked_prob (of the ensemble as in the score table, not calibrated), edits (letters or pixels that were changed).

    Returns:
        these columns in the types of TYPES; float32 becomes float64.

    Raises:
        BadUse: the file cannot be read, a column is missing, or a row breaks the contract; the message names file, row and column.
    """
    source = "the stage attack writes it"
    try:
        table = pd.read_parquet(path)
    except (OSError, pa.ArrowException) as error:
        raise BadUse(f"{path}: not a readable table ({error}); {source}") from error
    if missing := [name for name in TYPES if name not in table]:
        raise BadUse(f"{path}: no column {missing[0]!r}; expected {', '.join(TYPES)}; {source}")
    for name in TYPES:
        _refuse(path, name, table[name].isna(), "a value")
    try:
        rows = table[list(TYPES)].astype(TYPES).reset_index(drop=True)
    except (TypeError, ValueError) as error:
        raise BadUse(f"{path}: {error}; {source}") from error
    for name, allowed in (("attack", tuple(MODALITIES)), ("member", MEMBERS)):
        _refuse(path, name, ~rows[name].isin(allowed), f"one of {', '.join(allowed)}")
    _refuse(path, "modality", rows.modality != rows.attack.map(MODALITIES), "what the attack changes: text or image")
    _refuse(path, "language", rows.language == ALL, f"a language; the word {ALL!r} is kept for all together")
    _refuse(path, "weight", ~((rows.weight > 0) & np.isfinite(rows.weight)), "a finite number above 0")
    for name in ("clean_prob", "attacked_prob"):
        _refuse(path, name, ~rows[name].between(0, 1), "a probability from 0 to 1")
    _refuse(path, "edits", rows.edits < 0, "a number from 0 on")
    _refuse(path, "member", rows.duplicated(KEY), "one row of each post, policy, attack and member")
    together = rows.assign(fused=rows.member == ENSEMBLE).groupby(KEY[:-1])["fused"].transform("any")
    _refuse(path, "member", ~together, f"a row of the member {ENSEMBLE} beside it")
    return rows


def _refuse(path: Path, column: str, bad: "pd.Series[bool]", expected: str) -> None:
    if bad.any():
        raise BadUse(
            f"{path}: row {int(bad.to_numpy().argmax()) + 1}, column {column}: expected {expected}; the stage attack writes it anew"
        )
