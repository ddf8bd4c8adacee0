"""Several processes that train one model: started by the stage itself on one machine, by torchrun on several."""

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from accelerate import PartialState

from upheld.common.terminal import console
from upheld.feature_store.backbones.devices import best_device

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
MEETING = "UPHELD_MEETING"  # names the file through which processes of one machine find each other: a port would be open to others


def together(module: str, number: int) -> None:
    """Let `number` processes do this stage and end with their exit code; return where one is enough, or where this is one of them.

    Args:
        module: the stage's, dotted; each process runs it with the arguments of this one.
        number: of processes. On a GPU each has a card to itself, on a CPU an equal share of the threads.
    """
    if "RANK" in os.environ:  # as torchrun has it
        if MEETING in os.environ:
            if sys.platform == "linux":
                ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # who started this process takes it along
            rank, world, backend = (
                int(os.environ["RANK"]),
                int(os.environ["WORLD_SIZE"]),
                "nccl" if best_device().type == "cuda" else "gloo",
            )
            meeting = Path(os.environ[MEETING]).as_uri()
            torch.distributed.init_process_group(backend, init_method=meeting, rank=rank, world_size=world)
        return
    if number > 1:
        sys.exit(_run([sys.executable, "-m", module, *sys.argv[1:]], number))


def tell(line: str) -> None:
    """Print a line once, however many processes trained together."""
    if PartialState().is_main_process:
        console().print(line)


def _run(argv: list[str], number: int) -> int:
    """Run a command as `number` processes that train together; returns the exit code of the first that failed, which ends the others."""
    shared = {"WORLD_SIZE": str(number), "LOCAL_WORLD_SIZE": str(number), "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    shared["OMP_NUM_THREADS"] = str(max(1, torch.get_num_threads() // number))
    shared["ACCELERATE_USE_CPU"] = str(best_device().type == "cpu").lower()
    children = []
    with tempfile.TemporaryDirectory(prefix="upheld-") as folder:
        shared[MEETING] = str(Path(folder) / "meeting")
        try:
            for rank in range(number):
                children.append(subprocess.Popen(argv, env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}))
            codes: list[int | None] = [None]
            while None in codes and not any(codes):
                time.sleep(0.1)
                codes = [child.poll() for child in children]
        finally:
            for child in children:
                child.kill()
                child.wait()
    failed = next((code for code in codes if code), 0)
    return failed if failed >= 0 else 128 - failed  # a signal as shells tell it
