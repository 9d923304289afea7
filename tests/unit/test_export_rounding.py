"""Compensated rounding: against torch's own patches, against the nearest step, and by a hand-worked pair of taps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st

from personsearch.core.seeding import rng_for
from personsearch.export.rounding import Filter, patches, round_compensated, round_nearest, steps_of


def test_two_taps_that_always_see_the_same_value_share_their_error() -> None:
    # Step 1/127: 0.4 and 0.4 steps round to 0 and 0 and lose 0.8 of a step. As both taps always see the same value, the
    # second makes up for the first: 0 and 1 lose 0.2 the other way.
    steps = np.float32([1 / 127])
    weight = np.float32([[1.0, 0.4 / 127, 0.4 / 127]])
    samples = np.array([[1.0, 2.0, 2.0], [0.0, 3.0, 3.0], [2.0, 1.0, 1.0]])
    assert round_nearest(weight, steps).tolist() == [[127, 0, 0]]
    compensated = round_compensated(weight, steps, samples.T @ samples)
    assert sorted(compensated[0, 1:].tolist()) == [0, 1]
    assert compensated[0, 0] == 127


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), taps=st.integers(2, 12))
@example(seed=932, taps=4)  # one tap after the other ends further off
def test_weights_on_steps_stay_and_no_filter_errs_more_than_with_the_nearest_steps(seed: int, taps: int) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(6, taps)).astype(np.float32)
    weight[:, 0] *= 20  # the identity's tap
    samples = np.abs(rng.normal(size=(200, taps))) @ np.abs(rng.normal(size=(taps, taps)))
    moments, steps = samples.T @ samples, steps_of(weight)

    def losses(rounded: np.ndarray) -> np.ndarray:
        error = weight - rounded * steps[:, None].astype(np.float64)
        return np.einsum("ci,ij,cj->c", error, moments, error)

    nearest, compensated = round_nearest(weight, steps), round_compensated(weight, steps, moments)
    assert (losses(compensated) <= (1 + 1e-9) * losses(nearest)).all()
    exact = (nearest * steps[:, None]).astype(np.float32)
    np.testing.assert_array_equal(round_compensated(exact, steps, moments), nearest)


def test_many_small_taps_beside_a_large_one_lose_far_less() -> None:
    rng = np.random.default_rng(1)
    weight = 0.05 * rng.normal(size=(16, 144)).astype(np.float32)
    weight[np.arange(16), np.arange(16)] = 1.0
    samples = np.maximum(rng.normal(size=(4000, 24)) @ rng.normal(size=(24, 144)), 0)
    moments, steps = samples.T @ samples, steps_of(weight)
    errors = [
        np.square((weight - rounded * steps[:, None]) @ samples.T).mean()
        for rounded in (round_nearest(weight, steps), round_compensated(weight, steps, moments))
    ]
    assert errors[1] < 0.3 * errors[0]


def test_a_filter_of_zeros_has_a_step_and_stays_zero() -> None:
    weight = np.zeros((2, 3), np.float32)
    assert steps_of(weight).tolist() == [1.0, 1.0]
    assert not round_compensated(weight, steps_of(weight), np.eye(3)).any()


@pytest.mark.parametrize(("groups", "stride"), [(1, 1), (4, 2), (2, 1)])
def test_patches_are_what_torch_multiplies_the_filter_with(groups: int, stride: int) -> None:
    torch.manual_seed(0)
    source, weight = torch.randn(2, 4, 6, 7), torch.randn(8, 4 // groups, 3, 3)
    item = Filter("w", "x", tuple(weight.shape), (stride, stride), (1, 1, 1, 1), groups)
    taps = patches(source.numpy(), item, rng_for(0, "patches"))  # all of them: there are fewer than are sampled
    filters = weight.numpy().reshape(groups, 8 // groups, -1)
    answers = np.einsum("sgt,gct->sgc", taps, filters).reshape(len(taps), 8)
    expected = F.conv2d(source, weight, stride=stride, padding=1, groups=groups).permute(0, 2, 3, 1).reshape(-1, 8)
    np.testing.assert_allclose(answers, expected.numpy(), atol=1e-4)
