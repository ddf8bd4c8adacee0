"""Reading dvc.yaml: edges are outs ∩ deps, and nothing else."""

from pathlib import Path

import pytest
import yaml

from upheld.dags.runner import graph

REPOSITORY = Path(__file__).resolve().parents[2]


def write(folder: Path, stages: dict[str, dict[str, object]]) -> Path:
    path = folder / "dvc.yaml"
    path.write_text(yaml.safe_dump({"stages": stages}))
    return path


def test_edges_of_the_real_graph_are_outs_among_deps() -> None:
    raw = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    expected = {
        (earlier, later) for earlier, before in raw.items() for later, after in raw.items() if set(before["outs"]) & set(after["deps"])
    }
    found = graph.upstream(graph.read(REPOSITORY / "dvc.yaml"))
    assert {(earlier, later) for later, sources in found.items() for earlier in sources} == expected
    assert ("predict", "fusion") in expected
    assert ("text", "image") not in expected


def test_every_dep_is_code_or_written_by_a_stage_or_pinned() -> None:
    stages = graph.read(REPOSITORY / "dvc.yaml")
    written = graph.producers(stages)
    others = {dep for stage in stages.values() for dep in stage.deps if dep not in written}
    from_outside = {dep for dep in others if not (REPOSITORY / dep).is_file() and not (REPOSITORY / dep / "__init__.py").is_file()}
    assert from_outside == {graph.PINNED}


def test_two_writers_of_one_path_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, {"a": {"cmd": "true", "outs": ["x"]}, "b": {"cmd": "true", "outs": ["x"]}})
    with pytest.raises(ValueError, match="written by two stages"):
        graph.read(path)


def test_reading_a_part_of_an_out_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, {"a": {"cmd": "true", "outs": ["d"]}, "b": {"cmd": "true", "deps": ["d/part"], "outs": ["y"]}})
    with pytest.raises(ValueError, match="stage b reads d/part, a part of d"):
        graph.read(path)


def test_meta_has_defaults(tmp_path: Path) -> None:
    stage = graph.read(write(tmp_path, {"a": {"cmd": "true", "outs": ["x"]}}))["a"]
    assert (stage.pool, stage.queue, stage.retries) == ("default_pool", "default", 0)
