"""KD_det: a specialised detector supervises both detection stages of the student (Munjal et al., section 4.1)."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from personsearch.core.errors import InputError
from personsearch.distill.detection_transfer import HintLoss, bounded_box_loss, soft_class_loss
from personsearch.distill.task import Criteria, Knowledge, TapLoss, missing_tap
from personsearch.distill.teachers import NetworkTeacher
from personsearch.models import SearchModel
from personsearch.models.detectors.regions import RegionSearch
from personsearch.models.search_model import TrainOutput

PROBE_SIDE_PX = 128
"""Side of the grey frame that a network is asked its maps' widths with; a multiple of every trunk's stride."""
CLASS_LOSSES = {"rpn": "rpn_class", "rcn": "refine_class"}
"""Names of the labels' class losses of the two stages, which share their weight with the teacher's."""


def detection_knowledge(
    student: SearchModel,
    teacher: NetworkTeacher,
    *,
    hint: bool,
    proposals: bool,
    refinement: bool,
    lambda_hint: float,
    hint_reduction: Literal["relative", "mean"],
    hint_taps: tuple[str, str],
    mu: float,
    temperature: float,
    squared_temperature: bool,
    background_weight: float,
    gamma: float,
    margin: float,
) -> Knowledge:
    """Equations 1 to 3: hint, and for both stages ``mu L_cls + (1 - mu) L_soft`` and ``L_reg + gamma L_bounded``.

    The teacher is asked at the student's own anchors and RoIs. The paper does not say where; anything else would
    compare different places.

    Args:
        student: gets an adaptation layer beside it where ``hint`` is on.
        teacher: needs the student's anchors and one box for both classes, as every network here has.
        hint: whether the hint loss takes part.
        proposals: whether the region proposal network's losses do.
        refinement: whether the second stage's do.
        lambda_hint: weight of the hint loss.
        hint_reduction: ``relative`` or not, see `hint_loss`.
        hint_taps: names of the student's and of the teacher's map.
        mu: share of the labels' class losses, in [0, 1].
        temperature: of `soft_class_loss`.
        squared_temperature: see there.
        background_weight: see there.
        gamma: weight of `bounded_box_loss`.
        margin: of it.

    Raises:
        ValueError: all three are off.
        InputError: a map of ``hint_taps`` does not exist, or the two networks have different anchors.
    """
    if not (hint or proposals or refinement):
        raise ValueError("at least one of hint, proposals and refinement must be on")
    criteria: dict[str, Criteria] = {}
    weights: dict[str, float] = {}
    if hint:
        widths = _width(student, hint_taps[0], "student"), _width(teacher.model, hint_taps[1], "teacher")
        loss: TapLoss = _OnMaps(HintLoss(*widths, relative=hint_reduction == "relative"))
        criteria["hint"] = Criteria(lambda_hint, {hint_taps: loss})
    soft: TapLoss = partial(
        _on_logits,
        temperature=temperature,
        background_weight=background_weight,
        squared_temperature=squared_temperature,
    )
    if proposals:
        check_anchors(student, teacher.model)
    for stage in [name for name, on in (("rpn", proposals), ("rcn", refinement)) if on]:
        bounded: TapLoss = partial(_on_deltas, stage=stage, margin=margin)
        criteria[f"{stage}_soft"] = Criteria(1 - mu, {(f"{stage}_logits", f"{stage}_logits"): soft})
        criteria[f"{stage}_bounded"] = Criteria(gamma, {(f"{stage}_deltas", f"{stage}_deltas"): bounded})
        weights[CLASS_LOSSES[stage]] = mu
    return Knowledge(teacher, criteria, weights)


def check_anchors(student: SearchModel, teacher: SearchModel) -> None:
    """Refuses a teacher with other anchors: number 5 of one would be compared with number 5 of the other.

    Raises:
        InputError: number, shapes or the stride differ, or one of the networks has no anchors.
    """
    of_student, of_teacher = _anchors(student), _anchors(teacher)
    if of_student != of_teacher:
        raise InputError(
            f"the teacher's anchors are {_shown(of_teacher)}",
            where="detection",
            expected=f"the student's, {_shown(of_student)}",
            remedy="train a teacher with the student's anchors and stride, or set detection.proposals=false",
        )


def _anchors(model: SearchModel) -> tuple[int, list[list[float]]] | None:
    """Stride and sides of a network's anchors."""
    if not isinstance(model, RegionSearch):
        return None
    return model.trunk.stride, [[round(float(side), 2) for side in shape] for shape in model.anchor_shapes.tolist()]


def _shown(anchors: tuple[int, list[list[float]]] | None) -> str:
    if anchors is None:
        return "none"
    stride, shapes = anchors
    named = ", ".join(f"{width:g} x {height:g}" for width, height in shapes[:3])
    return f"{len(shapes)} ({named}{', ...' if len(shapes) > 3 else ''}) every {stride} px"


class _OnMaps(nn.Module):
    """A loss of two maps as a criterion; a module, so that its adaptation layer is trained."""

    def __init__(self, loss: HintLoss) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, student: Tensor, teacher: Tensor, output: TrainOutput) -> Tensor:
        found: Tensor = self.loss(student, teacher)
        return found


def _on_logits(
    student: Tensor,
    teacher: Tensor,
    output: TrainOutput,
    *,
    temperature: float,
    background_weight: float,
    squared_temperature: bool,
) -> Tensor:
    return soft_class_loss(
        student,
        teacher,
        temperature=temperature,
        background_weight=background_weight,
        squared_temperature=squared_temperature,
    )


def _on_deltas(student: Tensor, teacher: Tensor, output: TrainOutput, *, stage: str, margin: float) -> Tensor:
    targets, positive = output.targets[f"{stage}_deltas"], output.targets[f"{stage}_positive"]
    return bounded_box_loss(student, teacher, targets, positive, margin=margin)


@torch.no_grad()
def _width(model: SearchModel, tap: str, whose: str) -> int:
    """Channels of a map, asked with one grey frame."""
    training, device = model.training, next(model.parameters()).device
    frame = torch.full((1, PROBE_SIDE_PX, PROBE_SIDE_PX, 3), 127, dtype=torch.uint8, device=device)
    roi = torch.tensor([[0.0, 0.0, PROBE_SIDE_PX / 2, PROBE_SIDE_PX]], device=device)
    taps = model.eval().taps(frame, [roi])
    model.train(training)
    if tap not in taps:
        raise missing_tap(tap, taps, whose)
    return int(taps[tap].shape[1])
