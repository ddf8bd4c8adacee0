"""The graph as `dvc.yaml` states it: what each stage reads and writes, and which stage therefore waits for which."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

# The graph's only file from outside: written by the run's first task, read by the first stage.
PINNED = "data/inputs.json"


@dataclass(frozen=True)
class Stage:
    """One stage of `dvc.yaml`; `params` are sections or keys of `params.yaml`, and `pool`, `queue` and `retries` come from its `meta`."""

    name: str
    deps: tuple[str, ...]
    params: tuple[str, ...]
    outs: tuple[str, ...]
    pool: str
    queue: str
    retries: int


def read(path: Path) -> dict[str, Stage]:
    """Read the stages by name, in the order of the file.

    Raises:
        ValueError: two stages write the same path, or one reads a part of what another writes: then no equal digests
            on both ends can show that the handoff is whole.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    stages = {}
    for name, body in content["stages"].items():
        meta = body.get("meta", {})
        files = {key: tuple(body.get(key, ())) for key in ("deps", "params", "outs")}
        pool, queue, retries = meta.get("pool", "default_pool"), meta.get("queue", "default"), meta.get("retries", 0)
        stages[name] = Stage(name=name, **files, pool=pool, queue=queue, retries=retries)
    outs = [out for stage in stages.values() for out in stage.outs]
    if len(set(outs)) != len(outs):
        raise ValueError(f"{path}: an out is written by two stages")
    for stage in stages.values():
        for dep in stage.deps:
            parts = [out for out in outs if dep.startswith(f"{out}/")]
            if parts:
                raise ValueError(f"{path}: stage {stage.name} reads {dep}, a part of {parts[0]}; depend on the whole out")
    return stages


def producers(stages: Mapping[str, Stage]) -> dict[str, str]:
    """Path -> name of the stage that writes it."""
    return {out: stage.name for stage in stages.values() for out in stage.outs}


def upstream(stages: Mapping[str, Stage]) -> dict[str, frozenset[str]]:
    """Stage name -> the stages whose outs are among its deps."""
    writer = producers(stages)
    return {stage.name: frozenset(writer[dep] for dep in stage.deps if dep in writer) for stage in stages.values()}
