"""The sum of the doubled values."""

import json
from pathlib import Path

if __name__ == "__main__":
    Path("data/total.json").write_text(json.dumps(sum(json.loads(Path("data/doubled.json").read_text()))))
