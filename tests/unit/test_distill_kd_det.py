"""KD_det on two small networks: equation 3 term by term, switches, where the teacher is asked, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from personsearch.core.errors import InputError
from personsearch.core.model_recipes import NaeRecipe, SeqNetRecipe
from personsearch.core.preprocess import Preprocess
from personsearch.core.recipe import validate
from personsearch.core.recipes import DetectionTransferRecipe, FasterRCNNRecipe, OimRecipe
from personsearch.distill.detection_transfer import bounded_box_loss, hint_loss, soft_class_loss
from personsearch.distill.kd_det import detection_knowledge
from personsearch.distill.run import check_detection
from personsearch.distill.task import DistillationTask
from personsearch.distill.teachers import NetworkTeacher
from personsearch.models import SearchModel, build_model
from personsearch.train.task import TaskBatch

PERSON_COUNT = 5
SMALL = {
    "rpn_channels": 8, "pool_size": 4, "rois_per_image": 8, "train_proposals": 16, "train_pre_nms": 64,
    "anchors": {"kind": "person", "heights": [32, 56], "ratio": 2.4},
}  # fmt: skip
STUDENT_TRUNK = {"kind": "depthwise", "stem_channels": 4, "channels": [4, 6, 8], "modules": 1, "person_channels": 8}
TEACHER_TRUNK = {"kind": "resnet_c4", "depth": 18, "width": 4}


Kind = type[OimRecipe] | type[FasterRCNNRecipe] | type[NaeRecipe] | type[SeqNetRecipe]


def build(kind: Kind, trunk: dict[str, Any], **changes: Any) -> SearchModel:
    torch.manual_seed(0)
    recipe = validate(kind, {"trunk": trunk, **SMALL, **changes}, where="test")
    return build_model(recipe, Preprocess(input_wh=(64, 96)), PERSON_COUNT)


def detector(**changes: Any) -> SearchModel:
    return build(FasterRCNNRecipe, TEACHER_TRUNK, **changes)


def student(**changes: Any) -> SearchModel:
    return build(OimRecipe, STUDENT_TRUNK, embedding_dim=8, queue_size=4, **changes)


def batch() -> TaskBatch:
    images = torch.randint(0, 256, (2, 96, 64, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    boxes = [torch.tensor([[10.0, 20.0, 30.0, 70.0]]), torch.tensor([[30.0, 30.0, 52.0, 88.0]])]
    return TaskBatch(images, boxes, [torch.tensor([2]), torch.tensor([-1])], ["a", "b"])


def task(
    pupil: SearchModel | None = None,
    teacher: SearchModel | None = None,
    loss_weights: dict[str, float] | None = None,
    precision: Any = "same",
    **changes: Any,
) -> DistillationTask:
    settings = DetectionTransferRecipe(**changes).model_dump(exclude={"teacher"})
    pupil = pupil or student()
    known = detection_knowledge(pupil, NetworkTeacher(teacher or detector(), precision), **settings)
    return DistillationTask(pupil, [known], loss_weights=loss_weights or {})


def step(made: DistillationTask) -> dict[str, Tensor]:
    torch.manual_seed(5)  # sampling of anchors and RoIs
    parts: dict[str, Tensor] = made.train()(batch())
    return parts


@pytest.mark.parametrize(("reduction", "squared"), [("relative", True), ("mean", False)])
def test_parts_are_the_losses_at_the_students_anchors_and_rois(reduction: str, squared: bool) -> None:
    given_options = {"hint_reduction": reduction, "squared_temperature": squared}
    made = task(temperature=4.0, background_weight=1.5, margin=0.1, **given_options)
    parts = step(made)
    torch.manual_seed(5)
    given = batch()
    output = made.student(given.images, given.boxes, given.person_ids)
    (teacher,) = made.teachers
    assert isinstance(teacher, NetworkTeacher)
    known = teacher.model.taps(given.images, output.rois, output.anchors)
    assert made.auxiliary is not None
    weight, bias = made.auxiliary.parameters()
    adapted = torch.nn.functional.conv2d(output.taps["feature.2"], weight, bias)
    hint = hint_loss(adapted, known["feature.2"], relative=reduction == "relative")
    torch.testing.assert_close(parts["hint"], hint)
    for stage in ("rpn", "rcn"):
        logits, deltas = f"{stage}_logits", f"{stage}_deltas"
        options = {"temperature": 4.0, "background_weight": 1.5, "squared_temperature": squared}
        expected = soft_class_loss(output.taps[logits], known[logits], **options)
        torch.testing.assert_close(parts[f"{stage}_soft"], expected)
        expected = bounded_box_loss(
            output.taps[deltas], known[deltas], output.targets[deltas], output.targets[f"{stage}_positive"], margin=0.1
        )
        torch.testing.assert_close(parts[f"{stage}_bounded"], expected)
    assert float(parts["rcn_bounded"].detach()) > 0


@pytest.mark.parametrize("hint", [False, True])
@pytest.mark.parametrize("proposals", [False, True])
@pytest.mark.parametrize("refinement", [False, True])
def test_total_is_equation_3(hint: bool, proposals: bool, refinement: bool) -> None:
    settings = {"hint": hint, "proposals": proposals, "refinement": refinement}
    if not any(settings.values()):
        with pytest.raises(ValueError, match="at least one"):
            task(**settings)
        with pytest.raises(InputError, match="all off"):
            check_detection(DetectionTransferRecipe(**settings))
        return
    check_detection(DetectionTransferRecipe(**settings))
    made = task(loss_weights={"identity": 0.3}, mu=0.6, gamma=0.7, lambda_hint=0.2, **settings)
    parts = step(made)
    expected = 0.3 * parts["identity"] + parts["rpn_box"] + parts["refine_box"]
    expected = expected + (0.6 if proposals else 1.0) * parts["rpn_class"]
    expected = expected + (0.6 if refinement else 1.0) * parts["refine_class"]
    if hint:
        expected = expected + 0.2 * parts["hint"]
    for stage, on in (("rpn", proposals), ("rcn", refinement)):
        if on:
            expected = expected + 0.4 * parts[f"{stage}_soft"] + 0.7 * parts[f"{stage}_bounded"]
    torch.testing.assert_close(parts["loss"], expected)
    assert (made.auxiliary is not None) == hint


@pytest.mark.parametrize("kind", [NaeRecipe, SeqNetRecipe])
@pytest.mark.parametrize("as_teacher", [False, True])
def test_norm_aware_networks_learn_and_teach_too(kind: type[NaeRecipe] | type[SeqNetRecipe], as_teacher: bool) -> None:
    """Both stages of NAE; of SeqNet the proposals and the second head, whose RoIs are the student's of the step."""
    pupil = student() if as_teacher else build(kind, STUDENT_TRUNK, embedding_dim=8, queue_size=4)
    teacher = build(kind, TEACHER_TRUNK, embedding_dim=6, queue_size=4) if as_teacher else detector()
    made = task(pupil, teacher, margin=100.0)  # every person counts in the box losses
    parts = step(made)
    halved = {"rpn_class", "refine_class", "hint", "rpn_soft", "rcn_soft", "rpn_bounded", "rcn_bounded"}
    expected = sum(value * (0.5 if name in halved else 1) for name, value in parts.items() if name != "loss")
    torch.testing.assert_close(parts["loss"], expected)
    assert ("first_class" in parts) == (kind is SeqNetRecipe and not as_teacher), "the labels' alone"
    assert all(bool(torch.isfinite(part)) for part in parts.values())

    for name, reached in (("rpn_soft", "subnet.class_logits."), ("rcn_soft", "head."), ("rcn_bounded", "head.")):
        gradients = torch.autograd.grad(
            step(made)[name], list(pupil.parameters()), allow_unused=True, materialize_grads=True
        )
        moved = {name for (name, _), one in zip(pupil.named_parameters(), gradients, strict=True) if one.any()}
        assert any(name.startswith(reached) for name in moved), name
        assert any(name.startswith("trunk.") for name in moved), name
        assert not any(name.startswith("first.") for name in moved), "SeqNet's first head is not compared"
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_the_teacher_neither_learns_nor_is_saved() -> None:
    made = task()
    (teacher,) = made.teachers
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    step(made)["loss"].backward()
    assert not teacher.training
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    assert made.auxiliary is not None
    own = {id(one) for one in (*made.trained.parameters(), *made.auxiliary.parameters())}
    assert not own & {id(one) for one in teacher.parameters()}
    assert all(one.grad is not None for one in made.auxiliary.parameters())


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 0.0), ("bfloat16", 0.1)])
def test_the_teacher_has_a_precision_of_its_own(precision: str, tolerance: float) -> None:
    plain, lower = step(task()), step(task(precision=precision))
    for name in ("hint", "rpn_soft", "rcn_soft"):
        torch.testing.assert_close(lower[name], plain[name], rtol=tolerance, atol=tolerance)
        assert lower[name].dtype == torch.float32
    assert torch.equal(lower["hint"], plain["hint"]) == (precision == "float32")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = step(task(precision=precision))
    assert all(bool(torch.isfinite(part)) for part in mixed.values())


def test_a_detector_that_learnt_from_itself_has_nothing_to_teach() -> None:
    teacher, pupil = student(), student().eval()
    pupil.load_state_dict(teacher.state_dict())
    made = task(pupil, teacher)
    made.eval()
    torch.manual_seed(5)
    parts = made(batch())
    assert float(parts["rpn_bounded"].detach()) == float(parts["rcn_bounded"].detach()) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"anchors": {"kind": "person", "heights": [32, 64], "ratio": 2.4}},
            r"2 \(13\.33 x 32, 26\.67 x 64\) every 16",
        ),
        ({"anchors": {"kind": "person", "heights": [32], "ratio": 2.4}}, r"anchors are 1 \(13\.33 x 32\)"),
        ({"trunk": {**TEACHER_TRUNK, "stride": 8}}, "every 8 px; expected the student's, 2"),
    ],
)
def test_other_anchors_are_refused(changes: dict[str, Any], message: str) -> None:
    trunk = changes.pop("trunk", TEACHER_TRUNK)
    teacher = build(FasterRCNNRecipe, trunk, **changes)
    with pytest.raises(InputError, match=message):
        task(teacher=teacher)
    step(task(teacher=teacher, proposals=False, hint=False))  # the second stage has RoIs, not anchors


def test_a_map_that_is_not_there_is_named_before_training() -> None:
    with pytest.raises(InputError, match=r"the teacher has no tap `feature\.9`; expected one of .*feature\.2"):
        task(hint_taps=("feature.2", "feature.9"))
    with pytest.raises(InputError, match=r"the student has no tap `conv4`"):
        task(hint_taps=("conv4", "feature.2"))


def test_maps_of_another_stride_are_refused() -> None:
    teacher = build(FasterRCNNRecipe, {**TEACHER_TRUNK, "stride": 8})
    with pytest.raises(InputError, match=r"`feature\.2` of the student does not fit .*after adaptation"):
        step(task(teacher=teacher, proposals=False, refinement=False))
