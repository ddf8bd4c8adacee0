"""What `upheld simulate-weeks` tells a lead: a table of rules, and the budget that ours needs."""

from collections.abc import Mapping
from typing import Any

from upheld.evaluation.report.words import share

HEADINGS = ("world (violations)", "rule", "wrong weeks", "abstains", "removes, of the ideal", "wrongful removals a week")
NOTE = (
    "A week is wrong where the threshold's true precision misses the target. The ideal removes the largest volume that truly meets it. "
    "Within a zone these audits are drawn flat, which is kind to *kish*: where errors gather in posts that are seldom drawn, it exceeds "
    "its stated error, and *ours* does not."
)


def rows(told: Mapping[str, Any]) -> list[list[str]]:
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
        for world in told["worlds"]
        for outcome in world["outcomes"]
    ]


def needs(told: Mapping[str, Any]) -> list[str]:
    """What budget our rule needs, a sentence a world."""
    lines = []
    for world in told["worlds"]:
        if world["oracle_removals_per_week"] is None:
            lines.append(f"World {world['world']}, {world['about']}: no threshold truly meets the target, so there is nothing to certify.")
            continue
        certify, automate = (_budget(world["need_budget"][kind]) for kind in ("to_certify", "to_automate"))
        lines.append(f"World {world['world']}, {world['about']}: to certify a threshold in most weeks {certify}; "
                     f"to remove {share(told['good_share'])} of the ideal {automate}.")  # fmt: skip
    return lines


def _budget(number: int | None) -> str:
    return "not even a label for every post suffices" if number is None else f"{number:,} labels a week"


def title(told: Mapping[str, Any]) -> str:
    """What was simulated, in one line."""
    return (
        f"Simulated, no real data: {told['weeks']:,} weeks of {told['posts_per_week']:,} posts, {told['budget']:,} labels a week, "
        f"precision target {share(told['target'])}, error {share(told['delta'])}"
    )


def markdown(told: Mapping[str, Any]) -> str:
    """simulation.md."""
    table = [HEADINGS, ["---"] * len(HEADINGS), *rows(told)]
    rules = [f"- *{name}*: {about}." for name, about in told["rules"].items()]
    lines = [
        "# How often each rule would have been wrong",
        "",
        f"{title(told)}.",
        "",
        *("| " + " | ".join(row) + " |" for row in table),
        "",
    ]
    return "\n".join(
        [*lines, "## Budget that our rule needs", "", *(f"- {line}" for line in needs(told)), "", "## Rules", "", *rules, "", NOTE, ""]
    )
