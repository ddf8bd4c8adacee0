"""Stands in for registry/runs/follow.py: says who runs, and at its end how it ended."""

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

parser = argparse.ArgumentParser()
parser.add_argument("--workspace", type=Path)
parser.add_argument("--store", type=Path)
parser.add_argument("--stage")
args = parser.parse_args()
followed = args.workspace / f"followed-{args.stage}"


def end(*_: Any) -> None:
    followed.write_text("told to end")
    sys.exit()


signal.signal(signal.SIGTERM, signal.SIG_IGN if (args.store / "deaf").exists() else end)
followed.write_text(str(os.getpid()))
time.sleep(600)
