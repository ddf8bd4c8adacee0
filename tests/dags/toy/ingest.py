"""Stands in for feature_store/ingest/command.py: accounts for nothing, or refuses a delivery named `bad`."""

import argparse
import json
import sys
from pathlib import Path

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("delivery")
    parser.add_argument("--store")
    parser.add_argument("--summary", type=Path)
    args = parser.parse_args()
    if args.delivery.endswith("bad"):
        print("upheld ingest: posts/1.csv: no column post_id", file=sys.stderr)
        sys.exit(2)
    args.summary.write_text(json.dumps({"delivery_digest": "d" * 64, "tables": {}}))
