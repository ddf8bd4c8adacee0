"""Merge changed values into a params file and check the whole; the runner's way to refuse a wrong parameter.

usage: python -m upheld.common.params.merge --params params.yaml --set text.epochs=1 --out merged.yaml
"""

import sys
from pathlib import Path
from typing import Annotated

import typer
import yaml

from upheld.common import files
from upheld.common.command import PARAM_OPTIONS, STORE_FOLDER, ParamOptions, StoreFolder, command
from upheld.common.params import params


@command("merge-params")
def main(
    out: Annotated[Path, typer.Option(help="YAML file to write; may be the params file itself.")],
    asked: ParamOptions = PARAM_OPTIONS,
    store: StoreFolder = STORE_FOLDER,
) -> None:
    """Merge params into one checked file: those of the params file, under the store's own, under the overrides."""
    merged = params.load(*asked, store).model_dump(mode="json")
    files.write_text(out, yaml.safe_dump(merged, sort_keys=False, allow_unicode=True))


if __name__ == "__main__":
    sys.exit(main())
