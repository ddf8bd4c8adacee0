"""Which device and which number format this machine computes best in."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch


def best_device() -> torch.device:
    """A GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 are done by the hardware: AMX or AVX512-BF16, or a GPU since Ampere.

    Elsewhere bfloat16 is emulated, and several times slower than float32.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Run matrix products and convolutions in bfloat16 where the hardware does so; elsewhere change nothing."""
    return torch.autocast(device.type, torch.bfloat16) if has_fast_bfloat16(device) else nullcontext()


Lane = Literal["deterministic", "fast"]


@contextmanager
def kernels_of(lane: Lane) -> Iterator[None]:
    """Compute in a lane; what was set before comes back afterwards.

    Args:
        lane: `deterministic` uses kernels that give the same result every time, or fails; `fast` lets a GPU take whichever of its kernels
            is fastest, float32 products in TF32 among them. On a CPU the two compute alike.
    """
    before, fills = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    tries, precision = torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic with a fixed workspace only
    torch.use_deterministic_algorithms(lane == "deterministic")
    # A guard against reading such memory that costs 11 % of a training step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = lane == "fast"
    torch.set_float32_matmul_precision("high" if lane == "fast" else "highest")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.utils.deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = tries
        torch.set_float32_matmul_precision(precision)
