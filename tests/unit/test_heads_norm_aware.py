"""Norm-aware embedding against a slow twin, its loss against binary cross-entropy, and the batches torch refuses."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from personsearch.losses.detection import class_loss
from personsearch.models.heads.norm_aware import (
    NormAwareEmbedding,
    NormAwareHead,
    RowNorm,
    normalised_linear,
    two_way,
)

EPS = 1e-5


def answer(head: NormAwareEmbedding, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Embedding before normalisation, and the score's logit."""
    raw = head(inputs)
    return raw, head.margin(raw)


def embedding(dim: int = 7, seed: int = 0) -> NormAwareEmbedding:
    """Levels of 3 and 5 values, with scales and shifts of some size, as after training."""
    torch.manual_seed(seed)
    head = NormAwareEmbedding((3, 5), dim).double()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return head


def levels(rows: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.rand(rows, width, generator=generator, dtype=torch.float64) for width in (3, 5))
    return first, second


def normalised(values: list[float], gamma: float, beta: float, known: tuple[float, float] | None) -> list[float]:
    """Batch norm of one channel: by its own mean and biased variance, or by the running ones."""
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / len(values)
    if known is not None:
        mean, variance = known
    return [(value - mean) / math.sqrt(variance + EPS) * gamma + beta for value in values]


@torch.no_grad()
def twin(head: NormAwareEmbedding, inputs: tuple[Tensor, Tensor]) -> tuple[list[list[float]], list[float]]:
    """Embeddings and scores, one number after another."""
    rows = len(inputs[0])
    columns: list[list[float]] = []
    for project, level in zip(head.projections, inputs, strict=True):
        linear, norm = project[0], project[1]
        for out in range(linear.out_features):
            column = [
                sum(float(weight) * float(value) for weight, value in zip(linear.weight[out], level[row], strict=True))
                + float(linear.bias[out])
                for row in range(rows)
            ]
            known = None if head.training else (float(norm.running_mean[out]), float(norm.running_var[out]))
            columns.append(normalised(column, float(norm.weight[out]), float(norm.bias[out]), known))
    embeddings = [[column[row] for column in columns] for row in range(rows)]
    lengths = [math.sqrt(sum(value * value for value in row)) for row in embeddings]
    scale = head.rescale
    known = None if head.training else (float(scale.running_mean), float(scale.running_var))
    margins = normalised(lengths, float(scale.weight), float(scale.bias), known)
    return embeddings, [1 / (1 + math.exp(-margin)) for margin in margins]


@pytest.mark.parametrize("training", [True, False])
def test_embedding_and_score_equal_the_slow_twin(training: bool) -> None:
    head = embedding()
    for seed in range(3):
        answer(head, levels(6, seed))  # running statistics of some batches
    head.train(training)
    inputs = levels(4, 9)
    expected_embeddings, expected_scores = twin(head, inputs)
    raw, margin = answer(head, inputs)
    torch.testing.assert_close(raw, torch.tensor(expected_embeddings, dtype=torch.float64))
    torch.testing.assert_close(margin.sigmoid(), torch.tensor(expected_scores, dtype=torch.float64))


def test_gradients_are_those_of_finite_differences() -> None:
    head = embedding()
    inputs = tuple(level.requires_grad_() for level in levels(4))
    assert torch.autograd.gradcheck(lambda *given: answer(head, given), inputs)
    head.eval()
    assert torch.autograd.gradcheck(lambda *given: answer(head, given), inputs)


@given(scale=st.floats(0.01, 100), seed=st.integers(0, 1000))
def test_length_and_direction_are_two_answers(scale: float, seed: int) -> None:
    head = embedding().eval()
    with torch.no_grad():
        head.rescale.weight.fill_(0.7)
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(3, 7, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(7, 7, generator=generator, dtype=torch.float64))[0]
    torch.testing.assert_close(F.normalize(raw * scale), F.normalize(raw))
    torch.testing.assert_close(head.margin(raw @ rotation), head.margin(raw))
    longer = head.margin(raw * scale) > head.margin(raw)
    assert longer.tolist() == [scale > 1] * 3, "the longer embedding is the surer person, whatever it looks like"


def test_the_pair_of_logits_has_the_margin_s_loss_and_probability() -> None:
    margin = torch.tensor([-3.0, 0.0, 0.4, 5.0, 80.0], dtype=torch.float64)
    positive = torch.tensor([False, True, True, False, True])
    slow = 0.0
    for value, label in zip(margin.tolist(), positive.tolist(), strict=True):
        probability = 1 / (1 + math.exp(-value))
        slow -= math.log(probability) if label else math.log(1 - probability)
    logits = two_way(margin)
    assert float(class_loss(logits, positive)) == pytest.approx(slow / 5)
    torch.testing.assert_close(logits.softmax(dim=1)[:, 1], margin.sigmoid())


def test_weights_start_as_published() -> None:
    torch.manual_seed(0)
    head = NormAwareEmbedding((400, 600), 256)
    for linear, norm in head.projections:
        assert abs(float(linear.weight.detach().std()) - 0.01) < 5e-4
        assert abs(float(norm.weight.detach().std()) - 0.01) < 2e-3
        assert not linear.bias.any()
        assert not norm.bias.any()
    assert [head.rescale.weight.item(), head.rescale.bias.item()] == [1, 0]


@pytest.mark.parametrize(("dim", "widths"), [(256, [128, 128]), (7, [3, 4]), (2, [1, 1])])
def test_dimensions_are_split_between_the_levels(dim: int, widths: list[int]) -> None:
    head = NormAwareEmbedding((3, 5), dim)
    assert [project[0].out_features for project in head.projections] == widths
    assert head([torch.rand(4, 3), torch.rand(4, 5)]).shape == (4, dim)


def test_impossible_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="1 dimensions for 2 levels"):
        NormAwareEmbedding((3, 5), 1)
    with pytest.raises(ValueError, match="0 levels"):
        NormAwareEmbedding((), 8)
    with pytest.raises(ValueError, match="1 levels for 2 projections"):
        embedding()([torch.rand(4, 3)])


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_rows_for_batch_statistics_train_by_the_running_ones(rows: int) -> None:
    head = embedding()
    answer(head, levels(6))
    before = {name: value.clone() for name, value in head.state_dict().items()}
    raw, margin = answer(head, levels(rows))
    (raw.sum() + margin.sum()).backward()
    assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items())
    assert all(torch.isfinite(parameter.grad).all() for parameter in head.parameters() if parameter.grad is not None)
    expected = answer(head.eval(), levels(rows))
    torch.testing.assert_close(raw, expected[0])
    torch.testing.assert_close(margin, expected[1])


def test_two_rows_are_normalised_as_torch_does() -> None:
    torch.manual_seed(0)
    ours, theirs = RowNorm(4), nn.BatchNorm1d(4)
    x = torch.randn(2, 4)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.running_var, theirs.running_var)


def test_the_head_embeds_the_crop_beside_the_block_and_reads_boxes_from_the_block() -> None:
    torch.manual_seed(2)
    head = NormAwareHead(nn.Conv2d(4, 6, 3, stride=2, padding=1), 4, 6, embedding_dim=10).eval()
    pooled = torch.randn(3, 4, 8, 8)
    taps: dict[str, Tensor] = {}
    output, after = head(pooled, taps), head.block(pooled)
    assert torch.equal(taps["feature.person"], after)
    crop_max = torch.stack([torch.stack([channel.max() for channel in row]) for row in pooled])
    block_max = torch.stack([torch.stack([channel.max() for channel in row]) for row in after])
    first, second = head.embedding.projections
    torch.testing.assert_close(output.raw_embedding, torch.cat([first(crop_max), second(block_max)], dim=1))
    torch.testing.assert_close(output.box_deltas, head.box_deltas(block_max))
    torch.testing.assert_close(output.class_logits, two_way(head.embedding.margin(output.raw_embedding)))
    assert (output.class_logits.shape, output.box_deltas.shape, output.raw_embedding.shape) == ((3, 2), (3, 4), (3, 10))


def test_box_layer_starts_near_no_correction() -> None:
    torch.manual_seed(0)
    deltas = normalised_linear(32, 4)(torch.rand(50, 32))
    assert deltas.abs().max().item() < 0.2


def test_length_is_measured_in_full_precision() -> None:
    head = NormAwareEmbedding((3, 5), 8).eval()
    tiny = torch.full((2, 8), 1e-4, dtype=torch.float16)  # its square, 1e-8, is 0 in fp16
    expected = 1e-4 * math.sqrt(8) / math.sqrt(1 + EPS)  # fresh running statistics: mean 0, variance 1
    with torch.no_grad():
        found = head.margin(tiny)
    assert found.tolist() == pytest.approx([expected] * 2, rel=0.01)


def test_under_autocast_close_lengths_get_margins_of_their_own() -> None:
    head = NormAwareEmbedding((3, 5), 8).eval()
    raw = torch.zeros(2, 8, dtype=torch.bfloat16)
    raw[0, :2], raw[1, :2] = torch.tensor([1.0, 0.0625]), torch.tensor([1.0, 0.0])  # lengths 1.00195 and 1
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        margin = head.margin(raw)
    assert margin.dtype == torch.float32
    assert margin[0] - margin[1] == pytest.approx(math.hypot(1, 0.0625) - 1, rel=1e-3)
