"""What a store holds for the logo detector to learn from: datasets in `logos/NAME`, and marks of brands in `marks`."""

from pathlib import Path
from typing import Final

from upheld.common.errors import BadUse, FailedWork
from upheld.feature_store.contracts import hashing
from upheld.feature_store.contracts.workspace import LogoPins
from upheld.feature_store.logos.dataset import dataset as logo_dataset
from upheld.feature_store.logos.dataset.dataset import Dataset

DATASETS: Final = "logos"
MARKS: Final = "marks"


def pins(store: Path) -> LogoPins:
    """What a run that starts now learns logos from, besides the ledger's outcomes.

    Args:
        store: folder with `logos/` and `marks/`; it may have neither.

    Returns:
        digest of each dataset and of the folder of marks; the same for the same content.

    Raises:
        FailedWork: a folder in `logos/` is no finished dataset.
    """
    folder = store / DATASETS
    within = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    datasets = {path.name: _read(path).digest for path in within if not path.name.startswith(".")}
    return LogoPins(logo_datasets=datasets, logo_marks=_marks_digest(store))


def pinned_datasets(store: Path, pinned: LogoPins) -> list[Dataset]:
    """The datasets that were pinned, in order of name.

    Raises:
        FailedWork: one was changed or removed since; one that was added since is left for the next run.
    """
    found = []
    for name, wanted in sorted(pinned.logo_datasets.items()):
        folder = store / DATASETS / name
        dataset = _read(folder)
        if dataset.digest != wanted:
            raise FailedWork(f"{folder}: changed since this run pinned it; put it back, or start a new run with `upheld retrain`")
        found.append(dataset)
    return found


def pinned_marks(store: Path, pinned: LogoPins) -> Path | None:
    """The folder of marks, None where none were pinned.

    Raises:
        FailedWork: its pictures were changed since.
    """
    if pinned.logo_marks is None:
        return None
    if _marks_digest(store) != pinned.logo_marks:
        raise FailedWork(f"{store / MARKS}: changed since this run pinned it; put it back, or start a new run with `upheld retrain`")
    return store / MARKS


def _read(folder: Path) -> Dataset:
    try:
        return logo_dataset.read(folder)
    except BadUse as error:
        raise FailedWork(f"{error}; every folder of {folder.parent} is learned from: finish this one or take it out") from error


def _marks_digest(store: Path) -> str | None:
    """Digest of the marks; None where there is no file that could be one."""
    folder = store / MARKS
    seen = folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir())
    return hashing.of_folder(folder) if seen else None
