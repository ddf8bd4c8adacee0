"""Stands in for feature_store/extraction/command.py: counts how often it was called; hangs where the store says `hang_features`."""

import argparse
import time
from pathlib import Path

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", type=Path)
    print("nothing new to extract")
    store = parser.parse_args().store
    with (store / "extractions").open("a") as file:
        file.write("extracted\n")
    if (store / "hang_features").exists():
        time.sleep(600)
