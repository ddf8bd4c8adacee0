"""The constants that name a workspace's files, and the graph that says where they lie."""

import re
from pathlib import Path

import yaml

from upheld.feature_store.contracts import workspace

REPOSITORY = Path(__file__).resolve().parents[3]
NAMED = {name: path for name, path in vars(workspace).items() if name.isupper()}


def test_each_output_of_the_graph_and_what_it_starts_from_has_one_constant_and_no_constant_lies_elsewhere() -> None:
    stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))["stages"].values()
    outs = {Path(out) for stage in stages for out in stage["outs"]} | {Path("data/inputs.json")}
    assert sorted(path for path in NAMED.values() if outs.isdisjoint(path.parents)) == sorted(outs)


def test_no_other_module_of_the_product_writes_such_a_path_out() -> None:
    written_out = re.compile("[\"'](" + "|".join(re.escape(path.as_posix()) for path in NAMED.values()) + ")[\"'/]")
    sources = [path for package in ("evaluation", "feature_store", "registry", "training") for path in (REPOSITORY / package).rglob("*.py")]
    found = {path.name: written_out.findall(path.read_text(encoding="utf-8")) for path in sources}
    assert {name for name, paths in found.items() if paths} == {"workspace.py"}
