"""The weekly calibration report of the last complete ISO week, every Monday; by hand for any week.

What it proposes for the thresholds in production is registered, and a run of the DAG `promote` asks a person about it.
Nothing changes without their yes. Where nothing is proposed, nobody is asked, and the task `propose` says why.
"""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import dag, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

from upheld.dags.runner.tasks import LEDGER, command_result, optional, run_command, store_of

ROOT = Path(__file__).resolve().parents[1]
WEEK = optional(
    "ISO week such as 2026-W43; empty: the last one that was complete when the run was due",
    pattern=r"^[0-9]{4}-W[0-9]{2}(?!\n)$",  # to Python's `$` a line break more is the end too
)


@dag(
    dag_display_name="Weekly calibration report",
    description="Reports on the last complete week and proposes thresholds, which a person approves or not. Mondays 06:00 UTC, or by hand.",
    default_args={"owner": "trust-and-safety"},
    schedule="0 6 * * 1",
    catchup=False,
    max_active_runs=1,
    params={"week": WEEK},
    tags=["upheld"],
    doc_md=__doc__,
)
def weekly_calibration() -> None:
    """Report, register what it proposes, ask. A re-run of a week gives the same report and asks about a proposal only once."""

    @task(inlets=[LEDGER])
    def report() -> dict[str, Any]:
        """Call `upheld weekly` with the model in production, and its thresholds as far as they ruled the week."""
        context = get_current_context()
        week = context["params"]["week"] or last_complete_week(context.get("logical_date") or datetime.now(UTC))
        reports = store_of(ROOT) / "weekly"
        before, in_force, out = state_before(reports, week), reports / "in_force" / f"{week}.json", reports / week
        champion = in_force.with_suffix(".champion.json")
        run_command(
            ROOT, "upheld.registry.production.weekly", ["in-force", "--week", week, "--out", str(in_force), "--champion", str(champion)]
        )
        told = json.loads(champion.read_text(encoding="utf-8")) if champion.exists() else None
        carried = [] if before is None else ["--state", str(before)]
        ruled = ["--thresholds", str(in_force)] if in_force.exists() else []
        named = [] if told is None else ["--champion", told["model_version"] or "none"]
        named += ["--incumbent", told["incumbent"]] if told and "incumbent" in told else []
        run_command(ROOT, "upheld.evaluation.weekly.command", ["--week", week, "--out", str(out), *named, *carried, *ruled])
        summary: dict[str, Any] = json.loads((out / "weekly.json").read_text(encoding="utf-8"))
        return summary | {"out": str(out)}

    @task
    def propose() -> dict[str, Any]:
        """Register the proposed thresholds of the champion, or say why there are none."""
        ti = get_current_context()["ti"]
        folder = ti.xcom_pull(task_ids="report")["out"]
        proposal = command_result(ROOT, "upheld.registry.production.weekly", ["--report", folder])
        if proposal["status"] == "nothing":
            ti.xcom_push(key="return_value", value=proposal)
            raise AirflowSkipException(proposal["why"])
        return proposal

    ask = TriggerDagRunOperator(
        task_id="ask",
        trigger_dag_id="promote",
        trigger_run_id="thresholds-{{ ti.xcom_pull(task_ids='propose')['thresholds'] }}",
        conf={"thresholds": "{{ ti.xcom_pull(task_ids='propose')['thresholds'] }}"},
        skip_when_already_exists=True,
        fail_when_dag_is_paused=True,  # a question that waits behind a switch would never be seen
    )

    report() >> propose() >> ask


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
