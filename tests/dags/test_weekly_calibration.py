"""The DAG `weekly_calibration`: which week it reports on, and what it carries from the week before."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from upheld.registry.servers import airflow_server

REPOSITORY = Path(__file__).resolve().parents[2]


def ask(expression: str, home: Path) -> Any:
    """The value of an expression over the DAG's module; Airflow stays out of the test process."""
    script = (
        f"import json; from datetime import datetime; from pathlib import Path; from upheld.dags.weekly_calibration import *; {expression}"
    )
    environment = os.environ | {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_the_week_is_the_last_complete_one_and_the_state_that_before_it(tmp_path) -> None:
    for name, done in (("2025-W52", True), ("2026-W02", True), ("2026-W04", True), ("2026-W03", False), ("notes", True)):
        (tmp_path / name).mkdir()
        (tmp_path / name / ("weekly.json" if done else "state.json")).write_text("{}")
    moments = ["2026-10-26T06:00:00+00:00", "2026-10-25T23:59:59+00:00", "2026-10-26T00:30:00+02:00", "2027-01-04T06:00:00+00:00"]
    weeks = f"[last_complete_week(datetime.fromisoformat(at)) for at in {moments}]"
    states = f"[str(state_before(Path({str(tmp_path)!r}), week)) for week in ('2026-W04', '2026-W02', '2025-W52')]"
    found = ask(f"print(json.dumps([{weeks}, {states}]))", tmp_path / "home")
    assert found[0] == ["2026-W43", "2026-W42", "2026-W42", "2026-W53"]
    assert found[1] == [str(tmp_path / "2026-W02" / "state.json"), str(tmp_path / "2025-W52" / "state.json"), "None"]


@pytest.mark.slow
def test_a_run_calls_the_command_for_its_week(toy: Any) -> None:
    environment = {key: value for key, value in airflow_server.environment(toy.store).items() if key not in os.environ}
    environment["AIRFLOW__CORE__DAGS_FOLDER"] = str(toy.root / "dags")
    ended = toy.store / "ended.json"

    def run(minute: int, week: str) -> dict[str, Any]:
        at = f"2026-10-26T00:{minute:02d}:00+00:00"
        conf = json.dumps({"week": week})
        toy.call("upheld.dags.runner.run_now", "weekly_calibration", "--at", at, "--conf", conf, "--result", str(ended), **environment)
        return json.loads(ended.read_text())["tasks"]

    nothing_in_production = {"report": "success", "propose": "skipped", "ask": "skipped"}
    assert run(1, "2026-W42") == nothing_in_production
    assert run(2, "2026-W43") == nothing_in_production
    told = json.loads((toy.store / "weekly" / "2026-W43" / "state.json").read_text())
    assert told["champion"] == "none"  # so the report says that nobody will be asked
    assert Path(told["state"]) == toy.store / "weekly" / "2026-W42" / "state.json"
    assert run(3, "2020-W01") == dict.fromkeys(("propose", "ask"), "upstream_failed") | {"report": "failed"}
