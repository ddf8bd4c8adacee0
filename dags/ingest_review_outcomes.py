"""Take the day's delivery of posts, decisions and review outcomes into the ledger, and announce it."""

import os
from pathlib import Path
from typing import Any

from airflow.sdk import dag, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

from upheld.dags.runner.tasks import LEDGER, command_result, optional, store_of

ROOT = Path(__file__).resolve().parents[1]
DELIVERY = optional("Folder or URL of the delivery; empty: UPHELD_DELIVERY, by default the folder `deliveries` of the store")


@dag(
    dag_display_name="Ingest the day's delivery",
    description="Takes posts, decisions and review outcomes into the ledger. Every day 00:00 UTC, or by hand.",
    default_args={"owner": "ml-engineering"},
    schedule="@daily",
    catchup=False,
    max_active_runs=1,
    params={"delivery": DELIVERY},
    tags=["upheld"],
    doc_md=__doc__,
)
def ingest_review_outcomes() -> None:
    """One task: ingest is idempotent, so the same place may be read every day."""

    @task(outlets=[LEDGER])
    def ingest() -> dict[str, Any]:
        """Call `upheld ingest` in the interpreter of the stages."""
        delivery = get_current_context()["params"]["delivery"] or default_delivery()
        counts = command_result(ROOT, "upheld.feature_store.ingest.command", [delivery], option="--summary")
        return {"delivery": delivery, "delivery_digest": counts["delivery_digest"]}

    ingest()


def default_delivery() -> str:
    """Where deliveries arrive in this deployment.

    Raises:
        AirflowSkipException: nobody configured a place, and nothing lies in the default one.
    """
    configured = os.environ.get("UPHELD_DELIVERY")
    folder = store_of(ROOT) / "deliveries"
    if configured is None and not folder.is_dir():
        raise AirflowSkipException(f"nothing delivered: there is no {folder}, and UPHELD_DELIVERY is not set")
    return configured or str(folder)


ingest_review_outcomes()
