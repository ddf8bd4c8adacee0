"""Who answered what to the questions about production. Reads the store alone, so neither Airflow nor MLflow need run.

usage: upheld approvals [--json]
"""

import sys
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from upheld.common.command import STORE_FOLDER, Output, StoreFolder, command
from upheld.common.terminal import console, visible
from upheld.registry.approvals import log
from upheld.registry.approvals.log import ANSWERS, Approval


def show(answers: Sequence[Approval]) -> None:
    """Print the table of answers, in the order given; long texts wrap, so that 80 columns hold it."""
    table = Table("when (UTC)", "answer", "asked for", "in place of", "by", "why", title="answers about production, newest first")
    for item in answers:
        held = ["held by the gate"] if item.gate == "hold" else []
        why = "; ".join([*held, *(text for text in (item.despite_hold, item.note) if text)])
        cells = (f"{item.at:%Y-%m-%d %H:%M}", ANSWERS[item.action], str(item.after), str(item.before), item.approver or "nobody", why)
        table.add_row(*(Text(visible(cell), overflow="fold") for cell in cells))
    console(stderr=False).print(table)


@command("approvals")
def main(
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """List who approved, rejected, rolled back, or let a question time out."""
    found = log.read(store)[::-1]
    none = f"no answer yet in {log.folder_of(store)}; `upheld promote` and the DAG promote write them"
    return Output([item.model_dump(mode="json") for item in found], (lambda: show(found)) if found else none)


if __name__ == "__main__":
    sys.exit(main())
