"""The DAG `ingest_review_outcomes`, run by Airflow around a stand-in for the command."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from upheld.registry.servers import airflow_server


def run(toy: Any, minute: int, conf: dict[str, str]) -> dict[str, Any]:
    ended = toy.store / "ended.json"
    environment = {key: value for key, value in airflow_server.environment(toy.store).items() if key not in os.environ}
    environment["AIRFLOW__CORE__DAGS_FOLDER"] = str(toy.root / "dags")
    at = f"2026-10-05T00:{minute:02d}:00+00:00"
    done = toy.call(
        "upheld.dags.runner.run_now",
        "ingest_review_outcomes",
        "--at",
        at,
        "--conf",
        json.dumps(conf),
        "--result",
        str(ended),
        **environment,
    )
    return json.loads(ended.read_text()) | {"code": done.returncode, "said": done.stdout + done.stderr}


@pytest.mark.slow
def test_a_delivery_is_taken_in_from_where_it_is_said_to_be(toy: Any, tmp_path: Path) -> None:
    nothing = run(toy, 1, {})
    assert (nothing["code"], nothing["tasks"]) == (0, {"ingest": "skipped"})
    taken = run(toy, 2, {"delivery": str(tmp_path)})
    assert (taken["code"], taken["tasks"]) == (0, {"ingest": "success"})
    (toy.store / "deliveries").mkdir()
    assert run(toy, 3, {})["tasks"] == {"ingest": "success"}
    refused = run(toy, 4, {"delivery": str(tmp_path / "bad")})
    assert (refused["code"], refused["tasks"]) == (1, {"ingest": "failed"})
    assert "posts/1.csv: no column post_id" in refused["said"]
