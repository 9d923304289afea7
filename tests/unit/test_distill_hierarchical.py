"""HDL's total loss on two small networks: equation 10 term by term, switches, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from personsearch.core.errors import InputError
from personsearch.core.manifest import TrainingData
from personsearch.core.preprocess import Preprocess
from personsearch.core.recipe import validate
from personsearch.core.recipes import DistillRecipe, HdlRecipe, HierarchicalRecipe, TrainRecipe
from personsearch.distill.attention_transfer import attention_transfer_loss
from personsearch.distill.hierarchical import hierarchical_knowledge
from personsearch.distill.prediction import prediction_loss
from personsearch.distill.relation import relation_loss
from personsearch.distill.run import check_settings
from personsearch.distill.task import Criteria, DistillationTask, Knowledge
from personsearch.distill.teacher_files import check_teacher
from personsearch.distill.teachers import NetworkTeacher
from personsearch.models import SearchModel, build_model
from personsearch.models.checkpoint import Checkpoint
from personsearch.train.task import TaskBatch

PERSON_COUNT = 5
SMALL = {
    "anchor_heights": [32, 56], "rpn_channels": 8, "pool_size": 4, "rois_per_image": 8, "train_proposals": 16,
}  # fmt: skip
STUDENT_TRUNK = {"kind": "depthwise", "stem_channels": 4, "channels": [4, 6, 8], "modules": 1, "person_channels": 8}
TEACHER_TRUNK = {"kind": "resnet_c4", "depth": 18, "width": 4}
DETECTION = ("rpn_class", "rpn_box", "refine_class", "refine_box")


def model(trunk: dict[str, Any], **changes: Any) -> SearchModel:
    torch.manual_seed(0)
    recipe = validate(HdlRecipe, {"trunk": trunk, **SMALL, **changes}, where="test")
    return build_model(recipe, Preprocess(input_wh=(64, 96)), PERSON_COUNT)


def batch(person_ids: tuple[int, int] = (2, 4)) -> TaskBatch:
    images = torch.randint(0, 256, (2, 96, 64, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    boxes = [torch.tensor([[10.0, 20.0, 30.0, 70.0]]), torch.tensor([[30.0, 30.0, 52.0, 88.0]])]
    return TaskBatch(images, boxes, [torch.tensor([person]) for person in person_ids], ["a", "b"])


def task(student: SearchModel | None = None, teacher: SearchModel | None = None, **changes: Any) -> DistillationTask:
    settings = HierarchicalRecipe(lambda_attention=3.0, lambda_feature=0.7).model_copy(update=changes)
    weights = changes.pop("loss_weights", {})
    content = {**settings.model_dump(), **changes}
    known = hierarchical_knowledge(NetworkTeacher(teacher or model(TEACHER_TRUNK)), **content)
    return DistillationTask(student or model(STUDENT_TRUNK), [known], loss_weights=weights)


def teacher_of(made: DistillationTask) -> SearchModel:
    (teacher,) = made.teachers
    assert isinstance(teacher, NetworkTeacher)
    return teacher.model


def step(made: DistillationTask, person_ids: tuple[int, int] = (2, 4)) -> dict[str, Tensor]:
    torch.manual_seed(5)  # RoI sampling
    return made.train()(batch(person_ids))


@pytest.mark.parametrize("reduction", ["mean", "norm"])
@pytest.mark.parametrize("kl_direction", ["teacher_first", "student_first"])
def test_parts_are_the_losses_at_the_students_rois(reduction: str, kl_direction: str) -> None:
    made = task(reduction=reduction, kl_direction=kl_direction)
    parts = step(made)
    torch.manual_seed(5)
    given = batch()
    output = made.student(given.images, given.boxes, given.person_ids)
    known = teacher_of(made).taps(given.images, output.rois)
    for kind in ("feature", "attention"):
        expected = sum(
            attention_transfer_loss(output.taps[name], known[name], reduction=reduction)
            for name in (f"{kind}.{level}" for level in ("0", "1", "2", "person"))
        )
        torch.testing.assert_close(parts[kind], expected)
    expected = prediction_loss(
        output.taps["identity_logits"], known["identity_logits"], output.roi_person_ids,
        temperature=4.0, direction=kl_direction,
    )  # fmt: skip
    torch.testing.assert_close(parts["prediction"], expected)
    assert float(parts["prediction"].detach()) > 0


@pytest.mark.parametrize("feature", [False, True])
@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("prediction", [False, True])
def test_total_is_equation_10(feature: bool, attention: bool, prediction: bool) -> None:
    if not (feature or attention or prediction):
        with pytest.raises(ValueError, match="at least one criterion"):
            task(feature=False, attention=False, prediction=False)
        return
    parts = step(task(feature=feature, attention=attention, prediction=prediction))
    off = torch.zeros(())
    expected = (0.1 if prediction else 1.0) * parts["identity"] + sum(parts[name] for name in DETECTION)
    expected = expected + 0.9 * parts.get("prediction", off)
    expected = expected + 3.0 * parts.get("attention", off) + 0.7 * parts.get("feature", off)
    torch.testing.assert_close(parts["loss"], expected)
    on = {"feature": feature, "attention": attention, "prediction": prediction}
    assert set(parts) == {"loss", "identity", *DETECTION, *(name for name, used in on.items() if used)}


def test_relation_is_added_to_equation_10() -> None:
    made = task(relation=True, lambda_relation=11.0)
    parts, plain = step(made), step(task())
    torch.manual_seed(5)
    given = batch()
    output = made.student(given.images, given.boxes, given.person_ids)
    known = teacher_of(made).taps(given.images, output.rois)["embedding"]
    torch.testing.assert_close(parts["relation"], relation_loss(output.taps["embedding"], known, output.roi_person_ids))
    assert float(parts["relation"].detach()) > 0
    torch.testing.assert_close(parts["loss"], plain["loss"] + 11.0 * parts["relation"])


def test_loss_weights_apply_on_top_of_equation_10() -> None:
    plain, weighted = step(task()), step(task(loss_weights={"identity": 2.0, "rpn_box": 0.0}))
    expected = plain["loss"] + 0.1 * plain["identity"] - plain["rpn_box"]
    torch.testing.assert_close(weighted["loss"], expected)


@pytest.mark.parametrize("name", ["prediction", "feature", "box"])
def test_a_loss_weight_of_something_else_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"loss_weights: `{name}` is no loss of this model; expected one of rpn_class"):
        step(task(loss_weights={name: 2.0}))


def test_a_batch_without_a_labelled_person_is_normal() -> None:
    made = task()
    parts = step(made, (-1, -1))
    parts["loss"].backward()
    assert float(parts["prediction"].detach()) == 0
    assert float(parts["identity"].detach()) == 0
    gradients = [parameter.grad for parameter in made.student.parameters()]
    assert all(gradient is not None and bool(torch.isfinite(gradient).all()) for gradient in gradients)


def test_the_teacher_does_not_change() -> None:
    made = task()
    before = {name: tensor.clone() for name, tensor in teacher_of(made).state_dict().items()}
    step(made)["loss"].backward()
    assert not teacher_of(made).training
    assert made.student.training
    assert all(parameter.grad is None for parameter in teacher_of(made).parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher_of(made).state_dict().items())
    assert made.trained is made.student


def test_the_same_weights_have_nothing_to_learn() -> None:
    teacher = model(STUDENT_TRUNK)
    student = model(STUDENT_TRUNK).eval()
    student.load_state_dict(teacher.state_dict())
    made = task(student, teacher)
    torch.manual_seed(5)
    made.eval()
    parts = made(batch())
    assert [float(parts[name].detach()) for name in ("feature", "attention")] == [0.0, 0.0]
    assert float(parts["prediction"].detach()) == pytest.approx(0.0, abs=1e-6)


def test_a_tap_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match=r"the student has no tap `attention\.0`; expected one of .*feature\.0"):
        step(task(student=model(STUDENT_TRUNK, attention="none")))
    far = {("feature.0", "feature.9"): lambda student, teacher, output: student.sum()}
    criteria = {"far": Criteria(1.0, far)}
    known = Knowledge(NetworkTeacher(model(TEACHER_TRUNK)), criteria)
    made = DistillationTask(model(STUDENT_TRUNK), [known], loss_weights={})
    with pytest.raises(InputError, match=r"the teacher has no tap `feature\.9`"):
        step(made)


def test_maps_of_different_size_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"`feature\.person` of the student does not fit .*\(\d+, 8, 2, 2\), the teacher"
    ):
        step(task(teacher=model(TEACHER_TRUNK, pool_size=8)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feature": False, "attention": False, "prediction": False}, "all off"),
        ({"levels": ()}, "`levels` is empty"),
    ],
)
def test_a_recipe_that_distils_nothing_is_refused(changes: dict[str, Any], message: str) -> None:
    check_settings(HierarchicalRecipe())
    check_settings(HierarchicalRecipe(feature=False, attention=False, levels=()))
    with pytest.raises(InputError, match=message):
        check_settings(HierarchicalRecipe(**changes))


def run_recipe(kind: type[TrainRecipe], **changes: Any) -> Any:
    content = {
        "name": "run", "model": {"trunk": STUDENT_TRUNK}, "preprocess": {"input_wh": [64, 64]},
        "data": {"root": "there", "split": changes.pop("split", "train")}, **changes,
    }  # fmt: skip
    return validate(kind, content, where="test")


@pytest.mark.parametrize(
    ("person_count", "name", "split"), [(6, "street", "train"), (5, "market", "train"), (5, "street", "test")]
)
def test_a_teacher_of_other_people_is_refused(person_count: int, name: str, split: str) -> None:
    here = (TrainingData(name="street", terms="free", identities=5),)
    student = run_recipe(DistillRecipe, teacher="t.pt")
    same = Checkpoint(run_recipe(TrainRecipe), 5, (TrainingData(name="street", terms="new", identities=5),), {}, {})
    check_teacher(same, Path("t.pt"), student, 5, here)
    boxes = (*here, TrainingData(name="boxes of a detector", terms="free", identities=0))
    check_teacher(same, Path("t.pt"), student, 5, boxes)
    check_teacher(replace(same, data=boxes), Path("t.pt"), student, 5, here)
    there = (TrainingData(name=name, terms="free", identities=person_count),)
    other = Checkpoint(run_recipe(TrainRecipe, split=split), person_count, there, {}, {})
    with pytest.raises(
        InputError, match=rf"teacher t.pt: was trained on {name} \({split}, {person_count} identities\)"
    ):
        check_teacher(other, Path("t.pt"), student, 5, here)
