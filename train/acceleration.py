"""What makes a training step faster without changing what is learnt: memory layout and compilation."""

from __future__ import annotations

import os
import shutil

import torch
from torch import nn

from personsearch.core.errors import InputError
from personsearch.models.backbones.trunk import Trunk


def accelerate(network: nn.Module, *, channels_last: bool, compiled: bool, device: torch.device) -> None:
    """Changes a network in place; names and values in its state dict stay.

    Args:
        network: what is trained.
        channels_last: weights of convolutions are laid out with channels last. Frames already are: they come in as
            height, width, channel and are only viewed in the other order.
        compiled: trunks are compiled with their first batch. The rest of a detector is not: its shapes depend on
            what is found, and compiling anew for each would cost more than it saves.
        device: that training runs on.

    Raises:
        InputError: ``compiled`` without a trunk, or without the compiler that torch needs for ``device``.
    """
    if channels_last:
        network.to(memory_format=torch.channels_last)
    if compiled:
        trunks = [part for part in network.modules() if isinstance(part, Trunk)]
        if not trunks:
            raise InputError("the network has no trunk to compile", where="compile", remedy="set compile=false")
        _require_compiler(device)
        for trunk in trunks:
            trunk.compile()


def _require_compiler(device: torch.device) -> None:
    named = os.environ.get("CXX")
    candidates = [named] if named else ["g++", "clang++", "c++"]
    if any(shutil.which(candidate) for candidate in candidates):
        return
    raise InputError(
        f"`compile` is set, but there is no C++ compiler ({', '.join(candidates)})",
        expected=f"the compiler that torch.compile generates code with for {device.type}",
        remedy="install g++, name another compiler in the variable CXX, or set compile=false",
    )
