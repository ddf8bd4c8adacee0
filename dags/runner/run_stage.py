"""The runner behind every task of `retrain`: workspace, one stage through DVC, registration. Knows nothing of Airflow.

usage: python -m upheld.dags.runner.run_stage prepare --root . --store store --run-id ID --params '{"text.epochs": 1}' --result FILE
       python -m upheld.dags.runner.run_stage features --workspace store/runs/ID --store store --result FILE
       (pin takes the same arguments)
       python -m upheld.dags.runner.run_stage stage NAME --workspace store/runs/ID --store store --result FILE
       python -m upheld.dags.runner.run_stage register --workspace store/runs/ID --store store --result FILE
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import yaml

from upheld.dags.runner import graph, process, workspace
from upheld.dags.runner.workspace import Refused

# What the task `features` reads of params.yaml, as `params` of dvc.yaml say it of a stage; `pin` reads the same, the other tasks nothing.
FEATURE_PARAMS = (
    "action",
    "audio_bounds",
    "audio_fingerprint",
    "caption",
    "clip",
    "faces",
    "features",
    "image_embedding",
    "ingest.max_media_pixels",
    "keyframes",
    "language",
    "motion",
    "ocr",
    "spectrogram",
    "speech",
    "text_embedding",
    "transcript",
    "video_bounds",
    "vision_answer",
)
LIVE = "upheld.registry.runs.live"  # begins and ends the run in MLflow
FOLLOW = "upheld.registry.runs.follow"  # shows there how a stage goes
TRAINING = "training"  # pool of the stages that are followed
KILLED = 75  # <sysexits.h> EX_TEMPFAIL: a signal ended the stage, so trying again may mend it

REAPED_WITHIN_S = 60.0


def prepare(root: Path, store: Path, run_id: str, params: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """Make the run's workspace, and begin its run in MLflow.

    Args:
        root: repository with code, `dvc.yaml` and `params.yaml`.
        run_id: names the workspace.
        params: flat parameters asked for; the repository's own values may be among them.
        facts: goes into `run.json`; see `workspace.create`.

    Returns:
        {"workspace", "status", "page"}; page is the run's in MLflow, None where its address is not known or MLflow is away.

    Raises:
        Refused: a parameter is wrong.
    """
    folder = workspace.location(store, run_id)
    workspace.create(root, folder, store, params, facts)
    tell_mlflow(folder, store)
    page = workspace.mlflow_page(folder)
    if page:
        print(f"in MLflow: {page}", flush=True)
    return {"workspace": str(folder), "status": "executed", "page": page}


def tell_mlflow(folder: Path, store: Path, *how: str) -> None:
    """Begin the workspace's run in MLflow, or let it go on, or say that it failed.

    Where MLflow is away, a line says so, and no more comes of it.
    """
    with suppress(Refused):
        arguments = [LIVE, "--workspace", str(folder), "--store", str(store), *how]
        workspace.call(arguments, folder, store, lambda line: print(line, flush=True))


COMMANDS = {  # of the tasks that stand before the stages
    "features": ["upheld.feature_store.extraction.command"],
    "pin": ["upheld.registry.runs.pin", "--out", graph.PINNED],
}


def before_stages(task: str, folder: Path, store: Path) -> dict[str, Any]:
    """Bring the feature store up to the ledger, or write down what the run starts from; a run whose inputs are pinned needs neither.

    Args:
        task: `features` or `pin`.
        store: folder with ledger, features and registry.

    Returns:
        {"status": executed/unchanged}.

    Raises:
        Refused: the ledger cannot be pinned, or extraction failed as a whole. Bad contents and extractors without weights are counted, and
            no failure.
    """
    if (folder / graph.PINNED).exists():
        return {"status": "unchanged"}
    with workspace.logged(folder, task) as tell:
        workspace.call([*COMMANDS[task], "--store", str(store)], folder, store, tell)
    return {"status": "executed"}


def stage(name: str, folder: Path, store: Path, force: bool) -> dict[str, Any]:
    """Run one stage in the workspace, or find that it need not run.

    Args:
        name: stage of the workspace's `dvc.yaml`.
        store: folder with the shared cache.
        force: run it even if nothing it reads has changed.

    Returns:
        {"stage", "status": executed/restored/unchanged, "deps": {path: md5}, "outs": {path: md5}}.

    Raises:
        Refused: the stage failed, or what it read is not what the stage before it wrote.
    """
    lines: list[str] = []
    written = yaml.safe_load((folder / "dvc.yaml").read_text(encoding="utf-8"))["stages"][name]
    ended = folder / ".dvc" / f"{name}.ended"  # by `process.PYTHON_ON_PATH`, where DVC let the stage's command run
    before = _standing(folder, name, written.get("outs", []))
    followed = graph.read(folder / "dvc.yaml")[name].pool == TRAINING
    follow = [process.interpreter(), "-m", FOLLOW, "--workspace", str(folder), "--store", str(store), "--stage", name]
    with workspace.logged(folder, name) as tell, process.beside(follow, folder, store) if followed else nullcontext():

        def note(line: str) -> None:
            """Into both logs, and kept for the message of a failure."""
            tell(line)
            lines.append(line)

        arguments = ["--wait-for-lock", "repro", "--single-item", "--pull", *(["--force"] if force else []), name]
        deadline = time.monotonic() + REAPED_WITHIN_S
        while True:
            lines.clear()
            ended.unlink(missing_ok=True)
            code = _dvc(arguments, folder, store, note, UPHELD_ENDED=str(ended), UPHELD_CURVES=str(folder / "logs" / f"{name}.jsonl"))
            if not code or ended.exists() or not _held_by_the_dead(folder) or time.monotonic() > deadline:
                break
            time.sleep(1)
    exit_code = int(ended.read_text(encoding="utf-8") or 1) if ended.exists() else None
    if code:
        # DVC's report quotes the command; what stands before it are the stage's own last words.
        words = [line.strip() for line in lines if line.strip() and not (exit_code and written["cmd"] in line)]
        exit_code = exit_code or 1
        killed = exit_code < 0 or exit_code > 128
        message = f"{name}: {words[-1] if words else 'no output'} (exit code {exit_code})"
        raise Refused(message, KILLED if killed else 2 if exit_code == 2 else 1)
    unchanged = before == _standing(folder, name, written.get("outs", []))
    lock = yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    check_handoff(name, graph.producers(graph.read(folder / "dvc.yaml")), lock)
    status = "executed" if exit_code is not None else "unchanged" if unchanged else "restored"
    return {"stage": name, "status": status, **_digests(lock[name])}


def _standing(folder: Path, name: str, outs: Sequence[str]) -> tuple[Any, dict[Path, tuple[int, int]]]:
    """The stage's entry in `dvc.lock`, and inode and time of every file of its outs: both stay where DVC finds nothing to do."""
    lock = yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8")) if (folder / "dvc.lock").exists() else {"stages": {}}
    files = [file for out in outs for file in (folder / out, *(folder / out).rglob("*")) if file.is_file()]
    return lock["stages"].get(name), {file: ((stat := file.stat()).st_ino, stat.st_mtime_ns) for file in files}


def _held_by_the_dead(folder: Path) -> bool:
    """Whether a process that has ended holds DVC's lock: DVC takes it for a running one until init has reaped it, and then lets go."""
    try:
        held = json.loads((folder / ".dvc" / "tmp" / "rwlock").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    holders = [*held.get("write", {}).values(), *(holder for readers in held.get("read", {}).values() for holder in readers)]
    for holder in holders:
        try:
            state = Path(f"/proc/{holder['pid']}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
    return False


def check_handoff(name: str, writer: dict[str, str], lock: dict[str, Any]) -> None:
    """Every file that a stage read must be the one its producer last wrote.

    Args:
        name: stage that has just run.
        writer: path -> stage that writes it.
        lock: the `stages` of `dvc.lock`.

    Raises:
        Refused: naming the first path whose digests differ, or whose producer has not run in this workspace.
    """
    for path, md5 in _digests(lock[name])["deps"].items():
        if path in writer:
            written = _digests(lock.get(writer[path], {}))["outs"].get(path)
            if written != md5:
                raise Refused(f"{name}: read {path} as {md5}, but {writer[path]} wrote {written}; run again --from {writer[path]}", 1)


def register(folder: Path, store: Path) -> dict[str, Any]:
    """Push the run's outs to the DVC remote and register what it made; doing it twice registers once.

    Returns:
        what `upheld.registry.runs.register` answered.

    Raises:
        Refused: the push or the registration failed.
    """
    # Stages in the order of `dvc.yaml`: tasks end in any order, and equal runs must have equal locks.
    lock = yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))
    order = list(graph.read(folder / "dvc.yaml"))
    lock["stages"] = dict(sorted(lock["stages"].items(), key=lambda item: order.index(item[0])))
    partial = folder / ".dvc.lock.partial"
    partial.write_text(yaml.safe_dump(lock, sort_keys=False), encoding="utf-8")
    partial.replace(folder / "dvc.lock")
    answer = folder / "registered.json"
    with workspace.logged(folder, "register") as tell:
        if _dvc(["push"], folder, store, tell):
            raise Refused("dvc push failed, so the version could not be rebuilt from its lineage; nothing was registered", 1)
        arguments = ["--workspace", str(folder), "--store", str(store), "--result", str(answer)]
        workspace.call(["upheld.registry.runs.register", *arguments], folder, store, tell)
    registered: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    return registered


def _dvc(arguments: list[str], folder: Path, store: Path, note: Any, **variables: str) -> int:
    # -P: the workspace's own packages must not stand before DVC's on the module path.
    return process.stream([process.interpreter(), "-P", "-m", "dvc", *arguments], folder, store, note, **variables)


def _digests(entry: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {side: {item["path"]: item["md5"] for item in entry.get(side, [])} for side in ("deps", "outs")}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one task. Returns 0 done, 1 failed, 2 bad use, 75 killed by a signal; the result says the same in JSON."""
    process.die_with_parent()
    args = _parser().parse_args(argv)
    task = args.name if args.task == "stage" else args.task
    folder = workspace.location(args.store, args.run_id) if args.task == "prepare" else args.workspace
    started = time.time()
    if args.task != "prepare" and _failed_at(folder) == task:  # tried again
        tell_mlflow(folder, args.store)
    try:
        if args.task == "prepare":
            result = prepare(args.root, args.store, args.run_id, json.loads(args.params), json.loads(args.facts))
        elif args.task == "stage":
            result = stage(args.name, folder, args.store, args.force)
        elif args.task == "register":
            result = register(folder, args.store)
        else:
            result = before_stages(args.task, folder, args.store)
        code = 0
    except Refused as refusal:
        print(f"{task}: failed: {refusal}", file=sys.stderr)
        result, code = {"status": "failed", "error": str(refusal)}, refusal.code
    if folder.exists():  # for `upheld runs`
        timed = result | {"started_at": started, "duration_s": round(time.time() - started, 1), "exit_code": code}
        workspace.write_json(folder / "results" / f"{task}.json", timed)
        # failure.json is about the first task whose last try failed; there is none where all went well.
        ended = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (folder / "results").glob("*.json")}
        failed = sorted((result["started_at"], name) for name, result in ended.items() if result["status"] == "failed")
        if failed:
            first = ended[failed[0][1]]
            failure = {"task": failed[0][1], "message": first["error"], "exit_code": first["exit_code"]}
            workspace.write_json(folder / "failure.json", failure)
            if code:
                tell_mlflow(folder, args.store, "--failed")
        else:
            (folder / "failure.json").unlink(missing_ok=True)
    elif code:  # a refused `prepare` leaves no folder
        failure = {"task": task, "message": result["error"], "exit_code": code}
        workspace.write_json(args.store / "refused" / f"{folder.name}.json", failure)
    workspace.write_json(args.result, result)
    return code


def _failed_at(folder: Path) -> str | None:
    """The task at which the workspace's run has failed, if any."""
    path = folder / "failure.json"
    return str(json.loads(path.read_text(encoding="utf-8"))["task"]) if path.exists() else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    tasks = parser.add_subparsers(dest="task", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--store", type=lambda text: Path(text).absolute(), required=True, help="folder with ledger, registry, runs")
    common.add_argument("--result", type=Path, required=True, help="JSON to write: status, paths and digests")
    first = tasks.add_parser("prepare", parents=[common], help="make the workspace")
    first.add_argument("--root", type=lambda text: Path(text).absolute(), required=True, help="repository to copy the code from")
    first.add_argument("--run-id", required=True, help="names the workspace")
    first.add_argument("--params", default="{}", help="JSON: flat parameter -> value")
    first.add_argument("--facts", default="{}", help="JSON for run.json; rerun_of names a run to take params and inputs from")
    later = argparse.ArgumentParser(add_help=False, parents=[common])
    later.add_argument("--workspace", type=lambda text: Path(text).absolute(), required=True, help="folder of the run")
    one = tasks.add_parser("stage", parents=[later], help="run one stage")
    one.add_argument("name", help="stage of dvc.yaml")
    one.add_argument("--force", action="store_true", help="run it even if nothing changed")
    tasks.add_parser("features", parents=[later], help="extract what the feature store lacks")
    tasks.add_parser("pin", parents=[later], help="pin the versions that the run starts from")
    tasks.add_parser("register", parents=[later], help="push to the remote and register")
    return parser


if __name__ == "__main__":
    sys.exit(main())
