"""Values of the pinned inputs, plus the seed, one file each."""

import json
from pathlib import Path

import yaml

if __name__ == "__main__":
    seed = yaml.safe_load(Path("params.yaml").read_text())["seed"]
    values = json.loads(Path("data/inputs.json").read_text())["values"]
    print(f"{len(values)} values to copy")
    Path("data/copied").mkdir()
    for number, value in enumerate(values):
        Path(f"data/copied/{number}.json").write_text(json.dumps(value + seed))
