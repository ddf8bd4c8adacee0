"""Child processes that never outlive who started them, and the environment that the stages run in."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

END_S = 10.0  # that a process beside gets to end
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>

# Stands before the real interpreter on PATH. DVC starts a stage's command through bash, out of our reach, so this process asks the kernel
# to be killed when DVC is, runs the stage's `python` as a child that dies with it, and writes the child's exit code (negative: the signal
# that ended it) into the file that UPHELD_ENDED names: so we know that the stage ran, and how it ended, without reading what DVC prints.
PYTHON_ON_PATH = """#!/bin/sh
exec "$UPHELD_PYTHON" -IS -c \
'import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
ended = os.environ.pop("UPHELD_ENDED", "")
child = os.fork()
if child == 0:
    ctypes.CDLL(None).prctl(1, 9)
    os.execv(sys.argv[1], sys.argv[1:])
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
if ended:
    with open(ended, "w") as file:
        file.write(str(code))
sys.exit(code if code >= 0 else 128 - code)' "$UPHELD_PYTHON" "$@"
"""

# Tensors come and go; memory that is given back to the kernel each time costs a page fault a page to get again. Kept, a convolutional
# network ran twice as fast on two cores (4.5 s against 2.3 s for eight photos, system time 10.2 s against 1.5 s). Source: mallopt(3).
# One heap for all threads, for those of threads beside the main one hold 64 MB at most: what is larger is given back all the same.
KEEP_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "2000000000",
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
    "MALLOC_TOP_PAD_": "67108864",
}


def die_with_parent() -> None:
    """Ask the kernel to kill this process as soon as its parent dies (Linux; elsewhere nothing happens)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def interpreter() -> str:
    """Path of the Python that has DVC and the stages' packages: UPHELD_PYTHON, by default the running one."""
    return os.environ.get("UPHELD_PYTHON", sys.executable)


def environment(workspace: Path, store: Path) -> dict[str, str]:
    """Environment of a stage: ours without Airflow's secrets, with `python` and the store named.

    Args:
        workspace: folder of the run, which holds the `bin/python` that dies with its parent.

    Returns:
        variables for `subprocess`. SHELL is bash because it becomes a lone command instead of waiting for it.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW__")}
    path = os.pathsep.join([str(workspace / "bin"), str(Path(interpreter()).parent), os.environ.get("PATH", os.defpath)])
    ours = {"PATH": path, "SHELL": "/bin/bash", "UPHELD_PYTHON": interpreter(), "UPHELD_STORE": str(store)}
    # Threads that spin for each other waste a busy machine: 13 times slower training was measured with more work than cores.
    ours["OMP_WAIT_POLICY"] = "PASSIVE"
    ours["MKL_CBWR"] = "AUTO,STRICT"  # a matrix product does not depend on where in memory its operands happen to lie
    return kept | ours | KEEP_MEMORY | {"DVC_NO_ANALYTICS": "1", "PYTHONUNBUFFERED": "1"}


def stream(argv: Sequence[str], workspace: Path, store: Path, each_line: Callable[[str], None], **variables: str) -> int:
    """Run a command in the workspace, handing over every line it prints as it comes.

    Args:
        argv: command and arguments; no shell sees them.
        workspace: working folder of the command.
        store: the store that the command works on.
        each_line: called with every line of standard output and standard error, without its end.
        variables: further variables of its environment.

    Returns:
        the exit code; negative where a signal ended the command.
    """
    with subprocess.Popen(
        argv,
        cwd=workspace,
        env=environment(workspace, store) | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        preexec_fn=die_with_parent,  # noqa: PLW1509  (the runner has one thread)
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            each_line(line.rstrip("\n"))
    return child.returncode


@contextmanager
def beside(argv: Sequence[str], workspace: Path, store: Path) -> Iterator[None]:
    """A command that runs in the workspace as long as the block does, and never longer than this process.

    At the end of the block it is told to end (SIGTERM), and killed where that takes it longer than some seconds. How it ended is nobody's
    business; what it prints goes where this process prints.
    """
    child = subprocess.Popen(
        argv,
        cwd=workspace,
        env=environment(workspace, store),
        stdin=subprocess.DEVNULL,
        preexec_fn=die_with_parent,  # noqa: PLW1509  (the runner has one thread)
    )
    try:
        yield
    finally:
        child.terminate()
        try:
            child.wait(END_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
