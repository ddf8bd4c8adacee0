"""Stands in for registry/runs/live.py: keeps what it was told, and refuses where the store says `no_mlflow`."""

import argparse
import json
import sys
from pathlib import Path

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--failed", action="store_true")
    args = parser.parse_args()
    if (args.store / "no_mlflow").exists():
        sys.exit("live: MLflow is away")
    with (args.workspace / "told").open("a") as file:
        file.write("failed\n" if args.failed else "go on\n")
    page = f"http://127.0.0.1:5000/#/experiments/1/runs/{args.workspace.name}"
    (args.workspace / "mlflow.json").write_text(json.dumps({"run_id": args.workspace.name, "page": page}))
