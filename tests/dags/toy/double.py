"""Twice every value. The store tells it to misbehave: `fail`, or `hang` after half of its output."""

import json
import os
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    store = Path(os.environ["UPHELD_STORE"])
    values = [json.loads(path.read_text()) for path in sorted(Path("data/copied").iterdir())]
    if (store / "fail").exists():
        print("double: told to fail, key toy", file=sys.stderr)
        sys.exit(1)
    if (store / "hang").exists():
        Path("data/doubled.json").write_text("[2,")
        (store / "pid.partial").write_text(str(os.getpid()))
        (store / "pid.partial").rename(store / "pid")
        time.sleep(600)
    Path(os.environ["UPHELD_CURVES"]).write_text("a curve\n")
    Path("data/doubled.json").write_text(json.dumps([2 * value for value in values]))
