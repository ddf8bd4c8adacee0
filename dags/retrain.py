"""Retrain on what the ledger holds: weekly, or by hand with the parameters of the form. Ends at alias `challenger`.

Approval is another DAG's business, so that no weekly run hangs on a person.
"""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from airflow.sdk import dag, get_current_context, task
from airflow.sdk.configuration import conf

from upheld.dags.runner.graph import read
from upheld.dags.runner.tasks import CHALLENGER, LEDGER, InMlflow, form, optional, run_task, stage_tasks

ROOT = Path(__file__).resolve().parents[1]
CONTROLS = {
    "rerun_of": optional("Run to take params and pinned inputs from (`upheld runs`)", section="rerun"),
    "from_stage": optional(
        "Stage to run even if nothing that it reads has changed", enum=[None, *read(ROOT / "dvc.yaml")], section="rerun"
    ),
}


@dag(
    dag_display_name="Retrain the models",
    description="Trains on what the ledger holds, up to a challenger that nobody serves yet. Mondays 03:00 UTC, or by hand.",
    default_args={"owner": "ml-engineering"},
    schedule="0 3 * * 1",
    catchup=False,
    max_active_runs=1,
    params=CONTROLS | form(ROOT),
    tags=["upheld"],
    doc_md=__doc__,
)
def retrain() -> None:
    """The graph of `dvc.yaml` between tasks of ours: make a workspace, extract features, pin the inputs; register the outcome."""

    def in_workspace(name: str) -> dict[str, Any]:
        """Run one of our commands on the workspace of this run."""
        prepared = get_current_context()["ti"].xcom_pull(task_ids="prepare")
        return run_task(ROOT, [name, "--workspace", prepared["workspace"]])

    @task
    def prepare() -> dict[str, Any]:
        """Make the workspace of the run."""
        context = get_current_context()
        facts = {"dag_id": context["dag"].dag_id, "airflow_run_id": context["run_id"], "rerun_of": context["params"]["rerun_of"]}
        if address := conf.get("api", "base_url", fallback=None):
            facts["airflow_page"] = f"{address.rstrip('/')}/dags/{facts['dag_id']}/runs/{quote(context['run_id'], safe='')}"
        params = {key: value for key, value in context["params"].items() if key not in CONTROLS}
        asked = ["--params", json.dumps(params), "--facts", json.dumps(facts)]
        return run_task(ROOT, ["prepare", "--root", str(ROOT), "--run-id", context["run_id"], *asked])

    @task(inlets=[LEDGER])
    def features() -> dict[str, Any]:
        """Extract from new posts what the models read; contents that are known already cost nothing."""
        return in_workspace("features")

    @task(trigger_rule="none_failed", inlets=[LEDGER])
    def pin() -> dict[str, Any]:
        """Write down which versions of ledger and features the run starts from."""
        return in_workspace("pin")

    @task(trigger_rule="none_failed", outlets=[CHALLENGER])
    def register() -> dict[str, Any]:
        """Push what was made and register it; an equal run that is registered already is found."""
        return in_workspace("register")

    prepare() >> features() >> pin() >> stage_tasks(ROOT) >> register()


for operator in retrain().tasks:
    operator.operator_extra_links = (InMlflow(),)
