"""Batch norms folded into the convolutions before them, for networks that only predict: a third fewer passes over memory."""

from copy import deepcopy

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

MAX_CHANGE = 1e-3  # of an output, as a share of the largest; rounding changes 1e-5


def folded(network: nn.Module, size: int) -> nn.Module:
    """A copy that computes the same in fewer steps; or the network itself, where no batch norm follows a convolution or the copy would
    compute something else.

    A norm with fixed statistics scales and shifts each channel, which weights and bias of the convolution before it can do as well.
    Which convolution that is is seen in one pass, so that it does not matter how a network is written.

    Args:
        network: in evaluation mode; from float32 (N, 3, size, size) to one tensor.
        size: side in pixels of the pictures that it is given: some networks take no others.
    """
    if not any(isinstance(module, _BatchNorm) for module in network.modules()):
        return network
    example = torch.rand((1, 3, size, size), generator=torch.Generator().manual_seed(0))
    pairs = _followed_by_norms(network, example)
    copy = deepcopy(network)
    for before, norm in pairs:
        convolution, fixed = copy.get_submodule(before), copy.get_submodule(norm)
        assert isinstance(convolution, nn.Conv2d) and isinstance(fixed, _BatchNorm)
        copy.set_submodule(before, fuse_conv_bn_eval(convolution, fixed))
        copy.set_submodule(norm, getattr(fixed, "act", nn.Identity()))  # timm's norms hold what follows them
    copy.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected, found = network(example), copy(example)
    alike = torch.allclose(found, expected, rtol=0, atol=MAX_CHANGE * float(expected.abs().max()))
    return copy if pairs and alike else network


def _followed_by_norms(network: nn.Module, example: torch.Tensor) -> list[tuple[str, str]]:
    """Names of each convolution whose output is the input of a batch norm, and of that norm."""
    made: dict[int, tuple[str, torch.Tensor]] = {}  # by identity; the tensors are kept, so that none takes another's place
    pairs: list[tuple[str, str]] = []
    hooks = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(lambda _, __, out, name=name: made.update({id(out): (name, out)})))
        elif isinstance(module, _BatchNorm):

            def note(_: nn.Module, inputs: tuple[torch.Tensor], name: str = name) -> None:
                if id(inputs[0]) in made:
                    pairs.append((made[id(inputs[0])][0], name))

            hooks.append(module.register_forward_pre_hook(note))
    try:
        with torch.inference_mode():
            network(example)
    finally:
        for hook in hooks:
            hook.remove()
    return pairs
