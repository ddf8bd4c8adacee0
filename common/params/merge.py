"""Merge changed values into a params file and check the whole; the runner's way to refuse a wrong parameter.

usage: python -m upheld.common.params.merge --params params.yaml --set text.epochs=1 --out merged.yaml
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from upheld.common import files
from upheld.common.command import PARAM_OPTIONS, STORE_FOLDER, ParamOptions, StoreFolder, command
from upheld.common.params import params


def run(path: Path, overrides: list[str], out: Path, store: Path) -> dict[str, Any]:
    """Write every parameter, in its checked form.

    Args:
        path: params file to start from.
        overrides: `section.key=value`, value in YAML syntax.
        out: YAML file to write; may be `path` itself.
        store: its own parameters come over those of `path`, and under the overrides.

    Returns:
        what was written.

    Raises:
        BadUse: a key is unknown, or a value has the wrong type or range.
    """
    merged = params.load(path, overrides, store).model_dump(mode="json")
    files.write_text(out, yaml.safe_dump(merged, sort_keys=False, allow_unicode=True))
    return merged


@command("merge-params")
def main(
    out: Annotated[Path, typer.Option(help="YAML file to write.")],
    asked: ParamOptions = PARAM_OPTIONS,
    store: StoreFolder = STORE_FOLDER,
) -> None:
    """Merge params into one checked file."""
    run(*asked, out, store)


if __name__ == "__main__":
    sys.exit(main())
