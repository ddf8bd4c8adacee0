"""Draw the three-zone audit: which posts people should look at (again), each with a known probability."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import typer

from evaluation import allocation, audit_frame, audit_told
from evaluation.allocation import Part, Posts
from evaluation.sampling import inclusion_probs, permanent_number
from feature_store import atomic, params
from feature_store.command import PARAMS_FILE, STORE_FOLDER, AsJson, Overrides, ParamsFile, StoreFolder, console, execute, parse_time
from feature_store.errors import BadUse

SECRET_VARIABLE = "UPHELD_AUDIT_SECRET"  # noqa: S105 (the variable's name, not its value)
PLAN_COLUMNS = ["draw_id", "post_id", "category", "language", "zone", "inclusion_prob", "drawn_at"]


@dataclass(frozen=True)
class Result:
    """The plan (one row a newly drawn post x category), the frame's size, how many of it were drawn before, the sample's size and range.

    `expected`, `low` and `high` (95 %) count what was drawn before, which keeps its place in the sample, and so does `parts`: what each
    zone of each category gets and why.
    """

    plan: pd.DataFrame
    num_frame: int
    num_before: int
    expected: float
    low: int
    high: int
    parts: list[Part]


def run(settings: params.Params, frame: pd.DataFrame, budget: int, secret: bytes, drawn_at: datetime) -> Result:
    """Draw each row of the frame by itself with its own probability (Poisson sampling).

    Args:
        settings: audit_sample; what labels buy depends on thresholds, fairness and seed.
        frame: post_id, category, language, score in [0, 1], action, drawn_before; one row a post x category. What an earlier draw
            took stays in the frame, or the rest would be no sample with the stated probabilities, and is not taken again.
        budget: expected size of the sample, at least 1.
        secret: key of the permanent random numbers: the same post and category always get the same number, so a draw
            can be repeated by us and not be foreseen by uploaders.
        drawn_at: UTC time written into the plan.

    Returns:
        the plan and its size; `inclusion_prob` sums to min(budget, rows) over the frame.

    Raises:
        BadUse: the frame is empty, or so large that the budget cannot give every row the smallest allowed probability.

    Source: Ohlsson (1995), "Coordination of samples using permanent random numbers"; STATISTICS §2.
    """
    if frame.empty:
        raise BadUse("no decision is left to draw from: every post and category of the table is labelled already")
    frame = frame.sort_values(["post_id", "category"])  # sums of floats depend on their order, and draws must not
    posts = _posts(frame)
    wants = {category: allocation.wanted(zones, settings) for category, zones in posts.items()}
    parts = allocation.allocate(posts, wants, budget, settings.audit_sample)
    prob = inclusion_probs(frame, {(part.category, part.zone): part.labels for part in parts}, settings.audit_sample)
    uniform = np.array([permanent_number(secret, *key) for key in zip(frame.post_id, frame.category, strict=True)])
    drawn = frame.assign(zone=frame.action, inclusion_prob=prob, drawn_at=pd.Timestamp(drawn_at))[(uniform < prob) & ~frame.drawn_before]
    ids = [_draw_id(*row) for row in zip(drawn.post_id, drawn.category, drawn.inclusion_prob, drawn.drawn_at, strict=True)]
    plan = drawn.assign(draw_id=ids)[PLAN_COLUMNS].sort_values(["category", "language", "zone", "draw_id"], ignore_index=True)
    spread = 1.96 * float(np.sqrt((prob * (1 - prob)).sum()))
    return Result(
        plan,
        len(frame),
        int(frame.drawn_before.sum()),
        float(prob.sum()),
        int(max(prob.sum() - spread, 0)),
        int(np.ceil(prob.sum() + spread)),
        parts,
    )


def _posts(frame: pd.DataFrame) -> dict[str, dict[str, Posts]]:
    """The frame's posts by category and zone."""
    posts: dict[str, dict[str, Posts]] = {}
    for (category, zone), rows in frame.groupby(["category", "action"]):
        own = Posts(rows.score.to_numpy(dtype=np.float64), np.ones(len(rows)), rows.language.to_numpy(dtype=object))
        posts.setdefault(str(category), {})[str(zone)] = own
    return posts


def _draw_id(*parts: Any) -> str:
    return "a_" + hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:20]


def main(argv: Sequence[str] | None = None) -> int:
    """Read the decisions, draw, write the plan and record the draw in the ledger. Returns the exit code."""

    def audit_sample(
        decisions: Annotated[Path, typer.Option(help="Decisions to draw from: a file, a folder, or a delivery with posts beside them.")],
        budget: Annotated[int, typer.Option(min=1, help="How many labels are wanted, as an expectation.")],
        out: Annotated[Path, typer.Option(help="Plan to write, .parquet or .csv.")],
        as_of: Annotated[str, typer.Option(help="Time of the draw, ISO 8601 with a zone; now where it is left out.")] = "",
        params_file: ParamsFile = PARAMS_FILE,
        overrides: Overrides = [],  # noqa: B006 (Typer copies it)
        store: StoreFolder = STORE_FOLDER,
        as_json: AsJson = False,
    ) -> None:
        """Draw posts for people to judge, each with a known probability."""
        settings = params.load(params_file, overrides, store)
        if out.suffix not in (".parquet", ".csv"):
            raise BadUse(f"--out {out}: expected a name that ends in .parquet or .csv")
        secret = os.environ.get(SECRET_VARIABLE, "").encode()
        if len(secret) < 16:
            raise BadUse(
                f"set the environment variable {SECRET_VARIABLE} to a secret of 16 characters or more: nobody else must foresee the draw"
            )
        drawn_at = parse_time(as_of, "--as-of") if as_of else datetime.now(UTC)
        with console().status("Reading decisions and what is labelled"):
            frame = audit_frame.read_frame(*audit_frame.known(decisions, store))
        result = run(settings, frame, budget, secret, drawn_at)
        with atomic.replacing(out) as partial:
            result.plan.to_csv(partial, index=False) if out.suffix == ".csv" else result.plan.to_parquet(partial, index=False)
            _record(store, result.plan)  # the plan takes its name only once the ledger knows the draw
        told = audit_told.describe(result.plan, result.parts) | {"out": str(out), "expected": result.expected, "low": result.low}
        told |= {"high": result.high, "drawn_before": result.num_before, "frame": result.num_frame}
        if as_json:
            print(json.dumps(told))
        else:
            audit_told.show(told, console())

    return execute(audit_sample, "audit-sample", argv)


def _record(store: Path, plan: pd.DataFrame) -> None:
    """Write the draw into the ledger, the authority on its probabilities; without a ledger the plan is all there is."""
    if (store / "ledger").is_dir():
        from feature_store.ledger import record_draws

        record_draws(store, pa.Table.from_pandas(plan, preserve_index=False))


if __name__ == "__main__":
    raise SystemExit(main())
