"""Take a reviewer's verdicts out of labels and estimates, visibly and until somebody puts them back; nothing is deleted.

usage: upheld reviewers hold rv_7 --reason "restores everything since week 40" --since 2026-09-28T00:00:00Z
       upheld reviewers release rv_7 --reason "the queue was German, the account was set to English"; upheld reviewers list
"""

import getpass
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import typer

from upheld.common.command import STORE_FOLDER, Main, Output, StoreFolder, command, parse_time
from upheld.common.errors import BadUse
from upheld.common.terminal import console
from upheld.feature_store.contracts.workspace import Hold
from upheld.feature_store.decisions import holds
from upheld.feature_store.ledger.ledger import Ledger
from upheld.registry.production.freeze import MAX_REASON, Reason, Who

Reviewer = Annotated[str, typer.Argument(help="Reviewer id, as in review_outcomes.")]
EVER = datetime(1970, 1, 1, tzinfo=UTC)


def run(store: Path, reviewer: str, event: Literal["hold", "release"], since: datetime, who: str, reason: str, at: datetime) -> bool:
    """Log a hold, or that one is released. From the next run on it rules snapshots, weekly reports and what is known of authors.

    Args:
        store: folder of ledger and log.
        reviewer: who has a verdict in the ledger, or is held.
        event: what is done.
        since: verdicts given from then on are taken out, with a zone.
        who: name of the person who decides.
        reason: why, in a sentence.
        at: now, with a zone.

    Returns:
        whether the reviewer's state changed; False where it was so already, and nothing is written then.

    Raises:
        BadUse: a reviewer without a verdict, a missing name or reason, one that is too long, or a damaged log.
    """
    if reviewer not in holds.held(store) and not (verdicts(store).reviewer_id == reviewer).any():
        raise BadUse(f"reviewer {reviewer!r}: no verdict in the ledger; `upheld reviewers list` names those who have one")
    for name, text in (("--who", who), ("--reason", reason)):
        if not text.strip() or len(text) > MAX_REASON:
            raise BadUse(f"{name}: expected 1 to {MAX_REASON} characters, found {len(text.strip())}")
    entry = Hold(reviewer_id=reviewer, event=event, since=since, who=" ".join(who.split()), at=at, reason=" ".join(reason.split()))
    return holds.append(store, entry)


def verdicts(store: Path) -> pd.DataFrame:
    """reviewer_id, verdict and reviewed_at of every outcome that the ledger holds, appeals left out. Raises BadUse without a ledger."""
    rows: pd.DataFrame = Ledger(store).read("review_outcomes", ["reviewer_id", "verdict", "reviewed_at", "source"]).to_pandas()
    return rows[rows.source != "appeal"]


def known(store: Path) -> list[dict[str, Any]]:
    """Every reviewer of the ledger, the busiest first: reviewer_id, num (verdicts), confirmed (a share), first and last (dates), held."""
    rows, standing = verdicts(store), {name: json.loads(hold.model_dump_json()) for name, hold in holds.held(store).items()}
    rows = rows.assign(confirmed=rows.verdict == "confirm_removal", day=rows.reviewed_at.dt.strftime("%Y-%m-%d"))
    each = rows.groupby("reviewer_id").agg(
        num=("verdict", "size"), confirmed=("confirmed", "mean"), first=("day", "min"), last=("day", "max")
    )
    found: list[Any] = each.sort_values("num", ascending=False, kind="stable").reset_index().to_dict("records")
    return [{**row, "held": standing.get(row["reviewer_id"])} for row in found]


@command("reviewers list")
def list_main(store: StoreFolder = STORE_FOLDER) -> Output:
    """Who reviews, how much, and who is held."""
    found = known(store)

    def show() -> None:
        """One line a reviewer."""
        for row in found:
            hold = row["held"]
            state = f"  held from {hold['since'][:10]} on by {hold['who']}: {hold['reason']}" if hold else ""
            line = (
                f"{row['reviewer_id']}  {row['num']:,} verdicts, {row['confirmed']:.0%} confirm, {row['first'][:10]} to {row['last'][:10]}"
            )
            console().print(line + state, markup=False, highlight=False, soft_wrap=True)

    return Output({"reviewers": found}, show)


@command("reviewers show")
def show_main(reviewer: Reviewer, store: StoreFolder = STORE_FOLDER) -> Output:
    """One reviewer: verdicts week by week, and every hold and release."""
    rows = verdicts(store)
    own = rows[rows.reviewer_id == reviewer]
    events = [json.loads(event.model_dump_json()) for event in holds.read(store) if event.reviewer_id == reviewer]
    if own.empty and not events:
        raise BadUse(f"reviewer {reviewer!r}: no verdict in the ledger; `upheld reviewers list` names those who have one")
    weeks = own.reviewed_at.dt.strftime("%G-W%V")
    counts: list[Any] = pd.crosstab(weeks, own.verdict).rename_axis("week").reset_index().to_dict("records")

    def show() -> None:
        """Weeks, then events."""
        for row in counts:
            said = ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in row.items() if name != "week" and number)
            console().print(f"{row['week']}  {said}", markup=False, highlight=False)
        for event in events:
            line = f"{event['at'][:16]}  {event['event']} (verdicts from {event['since'][:10]} on) by {event['who']}: {event['reason']}"
            console().print(line, markup=False, highlight=False, soft_wrap=True)

    return Output({"reviewer_id": reviewer, "weeks": counts, "events": events}, show)


def changing(event: Literal["hold", "release"]) -> Main:
    """The command `upheld reviewers hold` or `upheld reviewers release`."""

    @command(f"reviewers {event}")
    def change(
        reviewer: Reviewer,
        reason: Reason,
        since: Annotated[str, typer.Option(help="Verdicts from then on, ISO 8601 with a zone; all, where it is left out.")] = "",
        who: Who = "",
        store: StoreFolder = STORE_FOLDER,
    ) -> Output:
        try:
            user = who or getpass.getuser()
        except (OSError, KeyError) as error:
            raise BadUse("--who: this system does not say who is calling; name the person") from error
        moment = parse_time(since, "--since") if since else EVER
        changed = run(store, reviewer, event, moment, user, reason, datetime.now(UTC))
        done = "done; the next retrain and the next weekly report are made so" if changed else "it was so already; nothing changed"
        text = f"{event} {reviewer}: {done}. Held now: {', '.join(holds.held(store)) or 'nobody'}."
        return Output(
            {"reviewer_id": reviewer, "event": event, "changed": changed}, lambda: console().print(text, markup=False, soft_wrap=True)
        )

    return change


hold_main = changing("hold")
release_main = changing("release")
