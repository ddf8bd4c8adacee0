"""Make the sample world: deliveries of posts, decisions and review outcomes in many languages, with the truth kept aside.

usage: upheld sample-data --out world; upheld sample-data respond --plan plan.parquet --world world --out answers
"""

import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import pandas as pd
import pyarrow as pa
import typer

from upheld.common import files
from upheld.common.command import PARAM_OPTIONS, STORE_FOLDER, Output, ParamOptions, StoreFolder, command
from upheld.common.errors import BadUse
from upheld.common.params import params
from upheld.common.params.data import SampleData
from upheld.common.progress import track
from upheld.common.terminal import console
from upheld.feature_store.contracts.tables import DELIVERED
from upheld.feature_store.sample_world import logos, respond
from upheld.feature_store.sample_world.base import refuse_others_folder, write_mark, write_table
from upheld.feature_store.sample_world.moderation import answer, appeal, decide, draw, staff
from upheld.feature_store.sample_world.posts import Posts, Week, monday_of, write


def run(settings: SampleData, seed: int, out: Path, weeks: Sequence[Week], posts_per_week: int) -> tuple[dict[str, int], datetime]:
    """Write the world's deliveries into `out`, replacing an earlier world there.

    A file of week NN is the same whichever weeks are made with it: each week has its own random streams, and what
    reviewers say in the week after a post's own is taken from that post's week anew.

    Args:
        settings: sizes, shares and audit probabilities.
        seed: of the world.
        out: folder to write: posts/, decisions/, review_outcomes/ and logo_outcomes/ with a file a week, media/, SYNTHETIC.json, and
            truth/ with labels, logos and reviewers, which is no part of the delivery.
        weeks: consecutive weeks.
        posts_per_week: how many posts each of them has.

    Returns:
        rows a table, and the end of the last week (UTC); later reviews are not part of the world.

    Raises:
        BadUse: `out` holds something that is no sample world.
    """
    refuse_others_folder(out)
    reviewers = staff(seed, settings.num_reviewers)
    counts: dict[str, int] = {}
    first = weeks[0]
    before = Week(first.seed, first.number - 1, first.monday - timedelta(weeks=1))
    late = _reviews(before, settings, write(before, settings, posts_per_week), reviewers)[1] if before.number else None
    with files.replacing_folder(out) as folder:
        for week in track(weeks, "sample world"):
            made = write(week, settings, posts_per_week)
            decisions, reviewed = _reviews(week, settings, made, reviewers)
            tables = {"posts": made.posts, "decisions": decisions}
            for table, rows in reviewed.items():
                by_time = ["reviewed_at", "outcome_id", "revision"]
                outcomes = rows if late is None else pd.concat([late[table], rows]).sort_values(by_time)
                within = (outcomes.reviewed_at >= week.monday) & (outcomes.reviewed_at < week.monday + timedelta(days=7))
                tables[table] = outcomes[within].reset_index(drop=True)
            late = reviewed
            name = f"week={week.number:02d}"
            for table, frame in tables.items():
                # The world's own audit is an external sampler's: its outcomes answer no draw of ours.
                fields = [field for field in DELIVERED[table].schema if field.name != "draw_id"]
                write_table(folder / table / f"{name}.parquet", frame, pa.schema(fields))
            truth_schema = pa.Schema.from_pandas(made.truth, preserve_index=False)
            write_table(folder / "truth" / f"{name}.parquet", made.truth, truth_schema)
            files.write_text(folder / "truth" / "logos" / f"{name}.csv", made.pictures.to_csv(index=False))
            for uri, content in made.media.items():
                (folder / uri).parent.mkdir(parents=True, exist_ok=True)
                (folder / uri).write_bytes(content)
            counts = {table: counts.get(table, 0) + len(frame) for table, frame in tables.items()}
        reviewers.to_parquet(folder / "truth" / "reviewers.parquet", index=False)
        as_of = weeks[-1].monday + timedelta(days=7)
        write_mark(folder, seed, as_of)
    return counts, as_of


def calendar(settings: SampleData, seed: int, first_week: str, num_weeks: int) -> list[Week]:
    """Consecutive weeks of the world.

    Raises:
        BadUse: `first_week` is no ISO week, or lies before the world begins.
    """
    try:
        begins, first = monday_of(settings.origin_week), monday_of(first_week)
    except ValueError as error:
        raise BadUse(f"--first-week {first_week}: expected an ISO week like {settings.origin_week}") from error
    number = (first - begins).days // 7 + 1
    if number < 1:
        raise BadUse(f"--first-week {first_week}: the world begins with sample_data.origin_week {settings.origin_week}")
    return [Week(seed, number + later, first + timedelta(weeks=later)) for later in range(num_weeks)]


def _reviews(week: Week, settings: SampleData, made: Posts, reviewers: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Decisions on a week's posts, and all verdicts of people on these posts, whenever given: table -> rows."""
    decisions = decide(week, settings, made)
    answers = answer(draw(week, settings, decisions), made.truth, reviewers, week.seed)
    removed = decisions[decisions.action == "auto_remove"].merge(made.truth, on=["post_id", "category"], validate="one_to_one")
    appeals = appeal(removed, reviewers, week.seed)
    outcomes = pd.concat([answers, appeals]).sort_values(["reviewed_at", "outcome_id", "revision"])
    on_logos = logos.reviewed(made.posts, made.pictures, settings.prob_logo_review, reviewers, week.seed)
    return decisions, {"review_outcomes": outcomes, "logo_outcomes": on_logos}


@command("sample-data")
def _make(
    out: Annotated[Path, typer.Option(help="Folder to write; an earlier sample world there is replaced.")],
    weeks: Annotated[int | None, typer.Option(min=1, help="How many weeks [sample_data.weeks].")] = None,
    posts_per_week: Annotated[int | None, typer.Option(min=1, help="Posts in each [sample_data.posts_per_week].")] = None,
    first_week: Annotated[str | None, typer.Option(help="ISO week to begin with [sample_data.origin_week].")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Another seed is another world [seed].")] = None,
    asked: ParamOptions = PARAM_OPTIONS,
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """Make a synthetic multilingual world. `sample-data respond` lets its reviewers answer an audit plan."""
    given = params.load(*asked, store)
    settings, seed = given.sample_data, given.seed if seed is None else seed
    chosen = calendar(settings, seed, first_week or settings.origin_week, weeks or settings.weeks)
    num_rows, end = run(settings, seed, out, chosen, posts_per_week or settings.posts_per_week)
    as_of = f"{end:%Y-%m-%dT%H:%M:%SZ}"

    def show() -> None:
        rows = ", ".join(f"{count} {table.replace('_', ' ')}" for table, count in num_rows.items())
        console().print(f"Synthetic world in {out}: {rows}. The truth is in {out / 'truth'}.")
        console().print(f"Next: upheld ingest {out} --as-of {as_of}")

    return Output({"out": str(out), "as_of": as_of, "synthetic": True, "rows": num_rows}, show)


def main(argv: Sequence[str] | None = None) -> int:
    """Make a world, or let its reviewers respond to a plan. Returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return respond.main(arguments[1:]) if arguments[:1] == ["respond"] else _make(arguments)
