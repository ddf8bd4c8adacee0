"""Stop automatic removal of a category at once, until somebody lifts it: such posts go to review from the next call of `upheld score` on.

usage: upheld freeze hate_speech --reason "news quotes are removed"; upheld unfreeze hate_speech --reason "fixed in version 7"
"""

import getpass
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from upheld.common.command import PARAM_OPTIONS, STORE_FOLDER, Main, Output, ParamOptions, StoreFolder, command
from upheld.common.errors import BadUse
from upheld.common.params import params
from upheld.common.terminal import console
from upheld.feature_store.contracts.workspace import Event
from upheld.feature_store.decisions import freezes

MAX_REASON = 500  # characters; it stands on the first screen of every report

Category = Annotated[str, typer.Argument(help="Policy, as in params.yaml.")]
Reason = Annotated[str, typer.Option(help="Why, in a sentence; every report shows it.")]
Who = Annotated[str, typer.Option(help="Who decides; the user of this system where it is left out.")]


def run(
    store: Path, policies: Sequence[str], category: str, event: Literal["freeze", "unfreeze"], who: str, reason: str, at: datetime
) -> bool:
    """Log a freeze, or that one is lifted.

    Args:
        store: folder of the log.
        policies: the categories that there are.
        category: one of them; a freeze that was made under other policies can be lifted all the same.
        event: what is done.
        who: name of the person.
        at: when, with a zone.

    Returns:
        whether the category's state changed; False where it was in it already, and nothing is written then.

    Raises:
        BadUse: an unknown category, a missing name or reason, one that is too long, or a damaged log.
    """
    known = [*policies, *(freezes.frozen(store) if event == "unfreeze" else ())]
    if category not in known:
        raise BadUse(f"category {category!r}: unknown; expected one of {', '.join(known)}")
    for name, text in (("--who", who), ("--reason", reason)):
        if not text.strip() or len(text) > MAX_REASON:
            raise BadUse(f"{name}: expected 1 to {MAX_REASON} characters, found {len(text.strip())}")
    entry = Event(category=category, event=event, who=" ".join(who.split()), at=at, reason=" ".join(reason.split()))
    return freezes.append(store, entry)


def changing(event: Literal["freeze", "unfreeze"]) -> Main:
    """The command `upheld freeze` or `upheld unfreeze`."""

    @command(event)
    def change(
        category: Category, reason: Reason, who: Who = "", asked: ParamOptions = PARAM_OPTIONS, store: StoreFolder = STORE_FOLDER
    ) -> Output:
        try:
            user = who or getpass.getuser()
        except (OSError, KeyError) as error:
            raise BadUse("--who: this system does not say who is calling; name the person") from error
        changed = run(store, params.load(*asked, store).policies, category, event, user, reason, datetime.now(UTC))
        standing = {name: json.loads(item.model_dump_json()) for name, item in freezes.frozen(store).items()}
        done = "done" if changed else "it was so already; nothing changed"
        text = f"{event} {category}: {done}. Frozen now: {', '.join(standing) or 'nothing'}."
        content = {"category": category, "event": event, "changed": changed, "frozen": standing}
        return Output(content, lambda: console().print(text, markup=False, soft_wrap=True))

    return change


main = changing("freeze")
unfreeze_main = changing("unfreeze")
