"""How often each rule for automatic removal would have been wrong, in worlds where the truth is known, and what budget ours needs.

usage: upheld simulate-weeks --out data/simulation --world A --posts-per-week 200000 --prevalence 0.005 --budget 800
"""

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from upheld.common import files
from upheld.common.arrays import Floats
from upheld.common.command import PARAM_OPTIONS, STORE_FOLDER, Output, ParamOptions, StoreFolder, command
from upheld.common.errors import BadUse
from upheld.common.params import params
from upheld.common.terminal import console
from upheld.evaluation.simulation import rules, text
from upheld.evaluation.simulation import worlds as simulation
from upheld.evaluation.simulation.rules import RULES, Audits, Design
from upheld.evaluation.simulation.worlds import World
from upheld.evaluation.statistics import intervals

WORLDS = {
    "A": "common: most violations score high, few lawful posts do",
    "B": "rare violations",
    "C": "frequent violations",
    "D": "lawful posts at the very top of the scores (quotations, news)",
    "E": "precision flat around the target, where looking at the point estimate goes wrong most",
}
POSTS, BUDGET, WEEKS = 500_000, 1000, 4000  # 4000 weeks put the standard error of a rate of .1 at .005
SEARCH_WEEKS = 500
GOOD_SHARE = 0.90  # of what an all-knowing lead would automate: what acceptance test 4 asks of our rule in world A


def run(
    settings: params.Params,
    out: Path,
    *,
    worlds: Sequence[str] = tuple(WORLDS),
    posts_per_week: int = POSTS,
    prevalence: float | None = None,
    budget: int = BUDGET,
    num_weeks: int = WEEKS,
) -> dict[str, Any]:
    """Simulate and write simulation.json and simulation.md.

    Args:
        settings: all params; read are seed, thresholds (precision_target and delta are the rules'), audit_sample.
        out: folder for the two files.
        worlds: letters of `WORLDS`.
        posts_per_week: posts of one category a week.
        prevalence: share of violations; each world's own where None.
        budget: labels of that category a week.
        num_weeks: simulated weeks a world.

    Returns:
        what simulation.json holds.

    Raises:
        BadUse: an unknown world, one that cannot hold the prevalence, or a budget that `audit-sample` would refuse.
    """
    least = math.ceil(posts_per_week * settings.audit_sample.min_inclusion_prob)
    if budget < least:
        raise BadUse(
            f"--budget {budget}: {posts_per_week} posts at audit_sample.min_inclusion_prob {settings.audit_sample.min_inclusion_prob} need "
            f"{least} labels; raise the budget, or lower the key with --set"
        )
    truths = {name: _world(name, prevalence, posts_per_week) for name in dict.fromkeys(worlds)}
    told = {
        "synthetic": True,
        "seed": settings.seed,
        "posts_per_week": posts_per_week,
        "budget": budget,
        "weeks": num_weeks,
        "good_share": GOOD_SHARE,
        "target": settings.thresholds.precision_target,
        "delta": settings.thresholds.delta,
        "rules": RULES,
        "worlds": [_simulate(name, truth, settings, budget, num_weeks) for name, truth in truths.items()],
    }
    files.write_text(out / "simulation.md", text.markdown(told))
    files.write_json(out / "simulation.json", told)
    return told


def _world(name: str, prevalence: float | None, posts_per_week: int) -> World:
    try:
        return simulation.world(name, prevalence, posts_per_week)
    except ValueError as error:
        raise BadUse(f"--world {name}: {error}") from error


def _simulate(name: str, truth: World, settings: params.Params, budget: int, num_weeks: int) -> dict[str, Any]:
    section, design = settings.thresholds, rules.design(truth, settings)
    audits = rules.audit(truth, design, settings, budget, num_weeks, settings.seed)
    oracle = truth.oracle_bin(section.precision_target)
    volume = float(truth.volume_above[oracle]) if oracle < simulation.NUM_BINS else None
    return {
        "world": name,
        "about": WORLDS[name],
        "prevalence": float(truth.violating.sum()),
        "oracle_removals_per_week": volume,
        "outcomes": [{"rule": rule, **_outcome(rule, truth, audits, volume, settings)} for rule in RULES],
        "need_budget": {
            "to_certify": _needed(truth, design, settings, lambda shares: float((shares > 0).mean()) >= section.power),
            "to_automate": None if volume is None else _needed(truth, design, settings, lambda shares: float(shares.mean()) >= GOOD_SHARE),
        },
    }


def _outcome(rule: str, truth: World, audits: Audits, oracle: float | None, settings: params.Params) -> dict[str, Any]:
    """How a rule fared: wrong is a threshold whose true precision misses the target; abstaining is never wrong."""
    chosen = rules.choose(rule, audits, settings.thresholds)
    acts, precision, volume = chosen >= 0, truth.precision_above[audits.path.bins][chosen], audits.path.volumes[chosen]
    wrong = acts & (precision < settings.thresholds.precision_target)
    low, high = intervals.wilson(wrong.sum(), len(wrong), settings.fairness.alpha)
    return {
        "wrong": float(wrong.mean()),
        "wrong_interval": [float(low), float(high)],
        "abstains": float((~acts).mean()),
        "automated_of_oracle": None if oracle is None else float(np.where(acts, volume, 0.0).mean() / oracle),
        "wrongful_removals_per_week": float(np.where(acts, volume * (1 - precision), 0.0).mean()),
    }


def _needed(truth: World, design: Design, settings: params.Params, enough: Callable[[Floats], bool]) -> int | None:
    """The smallest weekly budget, to about 5 %, at which our rule does `enough`; None where labelling every post would not."""

    def suffices(budget: float) -> bool:
        """Whether a weekly budget does `enough`."""
        drawn = rules.audit(truth, design, settings, round(budget), SEARCH_WEEKS, settings.seed)
        chosen = rules.choose("ours", drawn, settings.thresholds)
        return enough(np.where(chosen >= 0, drawn.path.volumes[chosen] / drawn.path.start_volume, 0.0))

    low = float(max(math.ceil(truth.posts_a_week * settings.audit_sample.min_inclusion_prob), 1))
    if suffices(low):
        return math.ceil(low)
    high = 2 * low
    while not suffices(high):
        low, high = high, 2 * high
        if low >= truth.posts_a_week:
            return None
    while high / low > 1.05:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return min(math.ceil(high), int(truth.posts_a_week))


@command("simulate-weeks")
def main(
    out: Annotated[Path, typer.Option(help="Folder for simulation.json and simulation.md.")],
    world: Annotated[list[str], typer.Option(help="A, B, C, D or E; may repeat; all without it.")] = list(WORLDS),  # noqa: B006
    posts_per_week: Annotated[int, typer.Option(min=100, help="Posts a week.")] = POSTS,
    prevalence: Annotated[float | None, typer.Option(help="Share of violations; each world's own without it.")] = None,
    budget: Annotated[int, typer.Option(min=1, help="Labels a week, in all three zones.")] = BUDGET,
    weeks: Annotated[int, typer.Option(min=100, help="Weeks to simulate.")] = WEEKS,
    target: Annotated[float | None, typer.Option(help="Precision target [params thresholds.precision_target].")] = None,
    delta: Annotated[float | None, typer.Option(help="Tolerated chance of a wrong week [params thresholds.delta].")] = None,
    asked: ParamOptions = PARAM_OPTIONS,
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """How often each rule would have been wrong, and what budget ours needs."""
    if prevalence is not None and not 0 < prevalence < 1:
        raise BadUse(f"--prevalence {prevalence}: expected a share between 0 and 1")
    given = {"precision_target": target, "delta": delta}
    own = [f"thresholds.{name}={value}" for name, value in given.items() if value is not None]
    settings = params.load(asked.file, [*asked.overrides, *own], store)
    with console().status("Simulating"):
        told = run(settings, out, worlds=world, posts_per_week=posts_per_week, prevalence=prevalence, budget=budget, num_weeks=weeks)
    return Output(told, lambda: _show(told, out))


def _show(told: dict[str, Any], out: Path) -> None:
    page = console(stderr=False, soft_wrap=True)
    table = Table(*text.HEADINGS, title=text.title(told), title_justify="left")
    for row in text.rows(told):
        table.add_row(*row)
    page.print(table)
    page.print("\n".join(text.needs(told)), highlight=False)
    console().print(f"Wrote {out}/simulation.json and {out}/simulation.md", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
