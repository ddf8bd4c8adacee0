"""weekly.json: which reports a week has, and what each says in a line."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from upheld.common import files
from upheld.common.errors import BadUse

FILE = "weekly.json"


class ModelSummary(BaseModel):
    """One model's report: the folder that holds it, its gate's decision, its headline, and how many changes of thresholds it proposes."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    model_version: str
    folder: str
    decision: str
    headline: str
    num_changes: int


class WeeklySummary(BaseModel):
    """A week's reports, in the order in which the models began to serve."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    week: str
    models: list[ModelSummary]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the summary of a folder that `upheld weekly` wrote; it is written last, so that where it is, everything is.

        Raises:
            BadUse: the file is missing or no such summary; names file and key.
        """
        path = folder / FILE
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise BadUse(f"{path}: cannot be read ({error.strerror}); expected a folder that `upheld weekly` wrote") from error
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise BadUse(f"{path}: key {key}: {first['msg']}; write it again with `upheld weekly`") from error

    def write(self, folder: Path) -> None:
        """Write the summary, whole or not at all."""
        files.write_json(folder / FILE, self.model_dump())
