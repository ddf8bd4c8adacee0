"""Options that several commands of the evaluation share, as `feature_store.command` has those of all commands."""

from pathlib import Path
from typing import Annotated

import typer

ScoreFile = Annotated[Path | None, typer.Option("--scores", help="Score table; without it the stage's own files.")]
ChampionScores = Annotated[Path | None, typer.Option(help="The champion's calibrated scores on the same rows.")]
ColumnNames = Annotated[str, typer.Option(help="Other column names and constants: score=my_col,category='x'.")]
ShowText = Annotated[bool, typer.Option("--show-text", help="Show the text of the posts that the report lists; without it, only ids.")]
Groups = Annotated[list[str], typer.Option(help="Further column to split by (a week has region and author_group), or a*b; may repeat.")]
