"""How often each rule for automatic removal would have been wrong, in worlds where the truth is known, and what budget ours needs.

usage: upheld simulate-weeks --out data/simulation --world A --posts-per-week 200000 --prevalence 0.005 --budget 800
"""

import math
from collections.abc import Callable, Mapping, Sequence
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
from upheld.evaluation.report.words import share
from upheld.evaluation.simulation import rules
from upheld.evaluation.simulation.rules import RULES, Audits, Design
from upheld.evaluation.simulation.worlds import NUM_BINS, World
from upheld.evaluation.simulation.worlds import world as make_world
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
HEADINGS = ("world (violations)", "rule", "wrong weeks", "abstains", "removes, of the ideal", "wrongful removals a week")
NOTE = (
    "A week is wrong where the threshold's true precision misses the target. The ideal removes the largest volume that truly meets it. "
    "Within a zone these audits are drawn flat, which is kind to *kish*: where errors gather in posts that are seldom drawn, it exceeds "
    "its stated error, and *ours* does not."
)


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
    truths = {}
    for name in dict.fromkeys(worlds):
        try:
            truths[name] = make_world(name, prevalence, posts_per_week)
        except ValueError as error:
            raise BadUse(f"--world {name}: {error}") from error
    section, simulated = settings.thresholds, []
    for name, truth in truths.items():
        design = rules.design(truth, settings)
        audits = rules.audit(truth, design, settings, budget, num_weeks, settings.seed)
        oracle = truth.oracle_bin(section.precision_target)
        volume = float(truth.volume_above[oracle]) if oracle < NUM_BINS else None
        certify = _needed(truth, design, settings, lambda shares: float((shares > 0).mean()) >= section.power)
        automate = None if volume is None else _needed(truth, design, settings, lambda shares: float(shares.mean()) >= GOOD_SHARE)
        simulated.append(
            {
                "world": name,
                "about": WORLDS[name],
                "prevalence": float(truth.violating.sum()),
                "oracle_removals_per_week": volume,
                "outcomes": [{"rule": rule, **_outcome(rule, truth, audits, volume, settings)} for rule in RULES],
                "need_budget": {"to_certify": certify, "to_automate": automate},
            }
        )
    results = {
        "synthetic": True,
        "seed": settings.seed,
        "posts_per_week": posts_per_week,
        "budget": budget,
        "weeks": num_weeks,
        "good_share": GOOD_SHARE,
        "target": settings.thresholds.precision_target,
        "delta": settings.thresholds.delta,
        "rules": RULES,
        "worlds": simulated,
    }
    files.write_text(out / "simulation.md", markdown(results))
    files.write_json(out / "simulation.json", results)
    return results


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
        results = run(settings, out, worlds=world, posts_per_week=posts_per_week, prevalence=prevalence, budget=budget, num_weeks=weeks)
    return Output(results, lambda: _show(results, out))


def _show(results: dict[str, Any], out: Path) -> None:
    page = console(stderr=False, soft_wrap=True)
    table = Table(*HEADINGS, title=title(results), title_justify="left")
    for row in rows(results):
        table.add_row(*row)
    page.print(table)
    page.print("\n".join(needs(results)), highlight=False)
    console().print(f"Wrote {out}/simulation.json and {out}/simulation.md", soft_wrap=True)


def rows(results: Mapping[str, Any]) -> list[list[str]]:
    """One row a world and rule, in the order of `HEADINGS`."""
    return [
        [
            f"{world['world']} ({share(world['prevalence'])})",
            outcome["rule"],
            share(outcome["wrong"]),
            share(outcome["abstains"]),
            "–" if outcome["automated_of_oracle"] is None else share(outcome["automated_of_oracle"]),
            f"{outcome['wrongful_removals_per_week']:,.0f}",
        ]
        for world in results["worlds"]
        for outcome in world["outcomes"]
    ]


def needs(results: Mapping[str, Any]) -> list[str]:
    """What budget our rule needs, a sentence a world."""
    lines = []
    for world in results["worlds"]:
        if world["oracle_removals_per_week"] is None:
            lines.append(f"World {world['world']}, {world['about']}: no threshold truly meets the target, so there is nothing to certify.")
            continue
        certify, automate = (_budget(world["need_budget"][kind]) for kind in ("to_certify", "to_automate"))
        lines.append(f"World {world['world']}, {world['about']}: to certify a threshold in most weeks {certify}; "
                     f"to remove {share(results['good_share'])} of the ideal {automate}.")  # fmt: skip
    return lines


def _budget(number: int | None) -> str:
    return "not even a label for every post suffices" if number is None else f"{number:,} labels a week"


def title(results: Mapping[str, Any]) -> str:
    """What was simulated, in one line."""
    return (
        f"Simulated, no real data: {results['weeks']:,} weeks of {results['posts_per_week']:,} posts, {results['budget']:,} labels a week, "
        f"precision target {share(results['target'])}, error {share(results['delta'])}"
    )


def markdown(results: Mapping[str, Any]) -> str:
    """simulation.md."""
    table = [HEADINGS, ["---"] * len(HEADINGS), *rows(results)]
    rules = [f"- *{name}*: {about}." for name, about in results["rules"].items()]
    lines = [
        "# How often each rule would have been wrong",
        "",
        f"{title(results)}.",
        "",
        *("| " + " | ".join(row) + " |" for row in table),
        "",
    ]
    return "\n".join(
        [*lines, "## Budget that our rule needs", "", *(f"- {line}" for line in needs(results)), "", "## Rules", "", *rules, "", NOTE, ""]
    )
