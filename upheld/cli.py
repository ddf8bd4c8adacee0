"""The `upheld` command: finds the subcommand's module and hands it the arguments."""

import importlib
import sys
from collections.abc import Sequence

from upheld.common.memory import keep_memory

# subcommand -> (module with `main(argv) -> int`, or module:function, what it does). Modules are imported only when asked for.
COMMANDS: dict[str, tuple[str, str]] = {
    "ingest": ("upheld.feature_store.ingest.command", "Take a delivery of posts, decisions and review outcomes into the ledger."),
    "features": (
        "upheld.feature_store.extraction.command",
        "Extract the features of every post's contents, or show what is known of one post.",
    ),
    "sample-data": ("upheld.feature_store.sample_world.command", "Make a synthetic world, or let its reviewers respond to an audit plan."),
    "demo": ("upheld.registry.runs.demo", "The main job on given data, or on a synthetic world: ingest to registered challenger."),
    "retrain": ("upheld.registry.runs.retrain", "Run the whole job through Airflow: snapshot to challenger."),
    "score": ("upheld.registry.score", "Decide on one post or many with a registered model and its thresholds."),
    "freeze": ("upheld.registry.production.freeze", "Stop automatic removal of a category at once."),
    "unfreeze": ("upheld.registry.production.freeze:unfreeze_main", "Resume automatic removal of a category."),
    "reviewers list": ("upheld.registry.production.reviewers:list_main", "Who reviews, how much, and who is held."),
    "reviewers show": ("upheld.registry.production.reviewers:show_main", "One reviewer's verdicts by week, and who held or released them."),
    "reviewers hold": ("upheld.registry.production.reviewers:hold_main", "Take a reviewer's verdicts out of labels and estimates."),
    "reviewers release": ("upheld.registry.production.reviewers:release_main", "Let a held reviewer's verdicts count again."),
    "promote": ("upheld.registry.production.promote", "Put a registered model, or new thresholds of the champion, into production."),
    "rollback": ("upheld.registry.production.promote:rollback_main", "Put back what was in production before."),
    "approvals": ("upheld.registry.approvals.log", "List who approved, rejected or rolled back what, and which questions timed out."),
    "diff": ("upheld.registry.diff", "What changed between two versions of the model."),
    "runs": ("upheld.registry.runs.history", "List the retrains and where the failed ones stopped."),
    "rerun": ("upheld.registry.runs.retrain:rerun_main", "Run a retrain again from one stage on."),
    "store move": ("upheld.registry.servers.store_move", "Make a copied or moved store a store of its own."),
    "up": ("upheld.registry.servers.up", "Start Airflow and MLflow on loopback."),
    "calibrate": ("upheld.evaluation.calibrate", "Calibrate scores and certify both thresholds of every category."),
    "evaluate": ("upheld.evaluation.evaluate", "Metrics per category and language, the gate's decision and the report."),
    "behave": ("upheld.registry.behave", "Functional and paired suites on a registered model, per language."),
    "dsa-export": (
        "upheld.evaluation.dsa_export",
        "Accuracy and error indicators per official EU language as CSV, for transparency reports.",
    ),
    "simulate-weeks": (
        "upheld.evaluation.simulation.command",
        "How often each threshold rule would have been wrong, and what budget ours needs.",
    ),
    "weekly": (
        "upheld.evaluation.weekly.command",
        "The weekly report: thresholds, audits, appeals, drift, fairness and reviewers of each model.",
    ),
    "logo import": ("upheld.feature_store.logos.sources.import_dataset", "Make a logo dataset of a YOLO, COCO or Pascal VOC dataset."),
    "logo outcomes": ("upheld.feature_store.logos.sources.outcomes", "Make a logo dataset of what reviewers said of detected logos."),
    "logo train": ("upheld.training.logos.stage", "Train a logo detector, and apply it to the photos held out."),
    "logo detect": ("upheld.training.logos.detect", "Find brand marks on photos."),
    "logo evaluate": ("upheld.evaluation.logos.stage", "Certify a confidence threshold, and measure a logo detector."),
    "logo compose": (
        "upheld.feature_store.logos.composites.command",
        "Paste brand marks onto photos: training data before any label exists.",
    ),
    "audit-sample": ("upheld.evaluation.audit.command", "Draw posts for people to judge, each with a known probability."),
    "suspects": ("upheld.registry.suspects", "List reviewed labels that the models contradict, for a second review."),
}

_WITH_NETWORKS = ("features", "score", "logo train", "logo detect")  # commands that run networks over pictures in this process


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand. Returns its exit code: 0 done, 1 failed work, 2 bad use."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0 if arguments else 2
    group = arguments[0] if any(command.startswith(f"{arguments[0]} ") for command in COMMANDS) else ""
    if group and arguments[1:2] in ([], ["-h"], ["--help"]):
        print(_usage(f"{group} "))
        return 0 if arguments[1:] else 2
    name, rest = (" ".join(arguments[:2]), arguments[2:]) if group else (arguments[0], arguments[1:])
    if name not in COMMANDS:
        print(f"upheld: no such command {name!r}; `upheld --help` lists them", file=sys.stderr)
        return 2
    place, _, function = COMMANDS[name][0].partition(":")
    if name in _WITH_NETWORKS:
        keep_memory()
    try:
        module = importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "upheld":
            raise
        print(f"upheld {name}: needs the package {error.name!r}; `make setup` installs everything", file=sys.stderr)
        return 1
    code: int = getattr(module, function or "main")(rest)
    return code


def _usage(group: str = "") -> str:
    """The commands whose names begin with `group`."""
    listed = {name.removeprefix(group): purpose for name, (_, purpose) in COMMANDS.items() if name.startswith(group)}
    width = max(map(len, listed))
    lines = [f"  {name:<{width}}  {purpose}" for name, purpose in listed.items()]
    return "\n".join(
        [f"usage: upheld {group}COMMAND [OPTIONS]", "", *lines, "", f"`upheld {group}COMMAND --help` shows the options of a command."]
    )


if __name__ == "__main__":
    sys.exit(main())
