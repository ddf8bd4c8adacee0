"""Stands in for registry/runs/pin.py: the store's `values.json`, or a refusal without it."""

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if not (args.store / "values.json").exists():
        print("pin: the ledger holds nothing yet", file=sys.stderr)
        sys.exit(1)
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text((args.store / "values.json").read_text())
