"""Layout and compilation change neither names nor values of a network's state."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from personsearch.core.errors import InputError
from personsearch.models.backbones.depthwise import DepthwiseSeparable
from personsearch.train.acceleration import accelerate

CPU = torch.device("cpu")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(DepthwiseSeparable(stem_channels=4, channels=(4, 6, 8), modules=1, attention="none"))


@pytest.mark.parametrize(("channels_last", "compiled"), [(True, False), (False, True), (True, True)])
def test_the_state_stays(channels_last: bool, compiled: bool) -> None:
    plain, fast = network(), network()
    accelerate(fast, channels_last=channels_last, compiled=compiled, device=CPU)
    expected, found = plain.state_dict(), fast.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    weight = found["0.stem.0.weight"]
    assert weight.is_contiguous(memory_format=torch.channels_last) == channels_last


def test_channels_last_gives_the_same_map() -> None:
    plain, fast = network().eval(), network().eval()
    accelerate(fast, channels_last=True, compiled=False, device=CPU)
    frames = torch.randn(2, 3, 32, 48)
    torch.testing.assert_close(fast[0](frames, {}), plain[0](frames, {}), rtol=1e-4, atol=1e-5)


def test_a_network_without_a_trunk_is_not_compiled() -> None:
    with pytest.raises(InputError, match=r"^compile: the network has no trunk to compile; set compile=false$"):
        accelerate(nn.Linear(2, 2), channels_last=False, compiled=True, device=CPU)
