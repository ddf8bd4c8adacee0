"""Run a retrain again from one stage on, with the params and pinned inputs of the run that failed and the code of today.

usage: upheld rerun RUN --from STAGE
"""

import sys
from pathlib import Path
from typing import Annotated

import typer
import yaml

from upheld import ROOT
from upheld.common.command import PARAM_OPTIONS, STORE_FOLDER, Output, ParamOptions, StoreFolder, command
from upheld.common.errors import BadUse
from upheld.registry.runs import history, retrain


def run(store: Path, name: str, stage: str | None, conf: dict[str, object]) -> history.Run:
    """Start a new run that takes over what an earlier one was given.

    Its workspace is a new one, so the failed run stays as evidence; stages before `stage` come out of the cache.

    Args:
        store: folder with ledger, registry, runs and caches.
        name: run to take params and pinned inputs from.
        stage: stage to run even if nothing that it reads has changed; None takes the one where the run failed.
        conf: parameters to change on top.

    Returns:
        the registered run.

    Raises:
        BadUse: there is no such run or stage.
        FailedWork: a task failed again.
    """
    earlier = history.read(history.folder(store, name))
    stages = list(yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"])
    if stage is not None and stage not in stages:
        raise BadUse(f"--from {stage}: no such stage; dvc.yaml has {', '.join(stages)}")
    forced = stage or (earlier.failed_task if earlier.failed_task in stages else None)
    return retrain.run(store, conf | {"rerun_of": earlier.name, "from_stage": forced})


@command("rerun")
def main(
    name: Annotated[str, typer.Argument(metavar="RUN", help="Run to do again, or its unique beginning; `upheld runs` lists them.")],
    stage: Annotated[str | None, typer.Option("--from", help="Stage to start from; by default the one that failed.")] = None,
    asked: ParamOptions = PARAM_OPTIONS,
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """Run a retrain again from one stage on."""
    return retrain.output(store, run(store, name, stage, retrain.changed(*asked, store)))


if __name__ == "__main__":
    sys.exit(main())
