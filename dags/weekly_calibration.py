"""The weekly calibration report of the last complete ISO week, every Monday; by hand for any week.

What it proposes takes effect only once a person has approved it, which is another DAG's business.
"""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

from dags.assets import LEDGER
from dags.process import interpreter
from dags.stages import call, store_of

ROOT = Path(__file__).resolve().parents[1]
WEEK = Param(
    None,
    type=["null", "string"],
    pattern=r"^[0-9]{4}-W[0-9]{2}$",
    description="ISO week such as 2026-W43; empty: the last one that was complete when the run was due",
)


@dag(schedule="0 6 * * 1", catchup=False, max_active_runs=1, params={"week": WEEK}, tags=["upheld"], doc_md=__doc__)
def weekly_calibration() -> None:
    """One task: a week's report depends on the ledger and on the state of the week before, and a re-run gives the same."""

    @task(inlets=[LEDGER])
    def report() -> dict[str, Any]:
        """Call `upheld weekly` in the interpreter of the stages."""
        context = get_current_context()
        week = context["params"]["week"] or last_complete_week(context.get("logical_date") or datetime.now(UTC))
        reports = store_of(ROOT) / "weekly"
        before = state_before(reports, week)
        carried = [] if before is None else ["--state", str(before)]
        out = reports / week
        code = call(ROOT, ["evaluation.weekly", "--week", week, "--out", str(out), "--store", str(store_of(ROOT)), *carried], interpreter())
        if code:
            raise AirflowFailException(f"the report of {week} exited with {code}; its last line says why")
        told: dict[str, Any] = json.loads((out / "weekly.json").read_text(encoding="utf-8"))
        return told | {"out": str(out)}

    report()


def last_complete_week(moment: datetime) -> str:
    """The ISO week before the one that `moment` lies in, UTC."""
    year, number, _ = (moment.astimezone(UTC) - timedelta(days=7)).isocalendar()
    return f"{year}-W{number:02d}"


def state_before(reports: Path, week: str) -> Path | None:
    """state.json of the latest report of an earlier week that was finished; None where there is none."""
    done = (path.parent.name for path in reports.glob("*/weekly.json"))
    earlier = [name for name in done if re.fullmatch(r"\d{4}-W\d{2}", name) and name < week]
    return reports / max(earlier) / "state.json" if earlier else None


weekly_calibration()
