"""Lanes: which kernels each allows, and that what was set before comes back, after a failure too."""

import pytest
import torch

from upheld.feature_store.backbones.devices import Lane, kernels_of


def settings() -> tuple[bool, bool, str]:
    return torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()


@pytest.mark.parametrize(("lane", "inside"), [("deterministic", (True, False, "highest")), ("fast", (False, True, "high"))])
def test_a_lane_is_set_and_undone(lane: Lane, inside: tuple[bool, bool, str]) -> None:
    before = settings()

    def fail() -> None:
        with kernels_of(lane):
            assert settings() == inside
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert settings() == before
