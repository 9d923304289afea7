"""KD_reid: the loss against a frozen table, at any width, and what becomes of the student's own memories."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from personsearch.core.errors import InputError
from personsearch.core.lookup_table_file import LookupTableFile
from personsearch.core.preprocess import Preprocess
from personsearch.core.recipe import validate
from personsearch.core.recipes import HdlRecipe, OimRecipe
from personsearch.distill.kd_reid import lookup_table_knowledge, memory_of
from personsearch.distill.lookup_table import FrozenTableLoss, ModelEmbedder, frozen_table_loss
from personsearch.distill.task import DistillationTask
from personsearch.losses.memory import LookupTable, RingQueue
from personsearch.models import SearchModel, build_model
from personsearch.models.search_model import TrainOutput
from personsearch.train.task import TaskBatch

PERSON_COUNT, WIDTH = 5, 8
TRUNK = {"kind": "depthwise", "stem_channels": 4, "channels": [4, 6, 8], "modules": 1, "person_channels": 8}
SMALL = {"rpn_channels": 8, "pool_size": 4, "rois_per_image": 8, "train_proposals": 16}


def units(seed: int, *shape: int) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=1)


def output_of(person_ids: Tensor) -> TrainOutput:
    return TrainOutput({}, {}, [], person_ids)


# -- the loss -------------------------------------------------------------------------------------------------------


def slow_loss(embeddings: Tensor, ids: Tensor, rows: list[list[float]], known: int, scale: float) -> float:
    """Cross-entropy number by number; ``rows`` are the table's ``known`` and then the queue's."""
    total, count = 0.0, 0
    for embedding, person in zip(embeddings.tolist(), ids.tolist(), strict=True):
        if person < 0 or not any(rows[person]):
            continue
        assert person < known
        logits = [scale * sum(a * b for a, b in zip(embedding, row, strict=True)) for row in rows]
        total -= logits[person] - math.log(sum(math.exp(logit) for logit in logits))
        count += 1
    return total / max(1, count)


@pytest.mark.parametrize("queue_size", [None, 0, 3])
def test_loss_equals_slow_twin(queue_size: int | None) -> None:
    embeddings, table = units(0, 7, 4), units(1, 5, 4)
    table[3] = 0  # nobody the teacher knows
    ids = torch.tensor([0, 2, -1, 3, 4, 2, -2])
    queue = None if queue_size is None else units(2, max(queue_size, 1), 4)[:queue_size]
    rows = [*table.tolist(), *([] if queue is None else queue.tolist())]
    expected = slow_loss(embeddings, ids, rows, len(table), 10.0)
    assert expected > 0
    assert float(frozen_table_loss(embeddings, ids, table, queue, scale=10.0)) == pytest.approx(expected, rel=1e-5)


def test_gradient_is_the_embeddings_alone() -> None:
    embeddings, table = units(0, 3, 4).float().requires_grad_(), units(1, 5, 4).float().requires_grad_()
    frozen_table_loss(embeddings, torch.tensor([0, 4, -1]), table.detach(), scale=5.0).backward()
    assert embeddings.grad is not None
    assert bool(embeddings.grad[:2].any())
    assert not bool(embeddings.grad[2].any())
    assert table.grad is None


@pytest.mark.parametrize("ids", [[], [-1, -2], [3]])
def test_nobody_to_learn_from_is_zero_with_a_graph(ids: list[int]) -> None:
    embeddings = units(0, 3, 4)[: len(ids)].float().requires_grad_()
    table = units(1, 5, 4).float()
    table[3] = 0
    loss = frozen_table_loss(embeddings, torch.tensor(ids, dtype=torch.int64), table, scale=10.0)
    loss.backward()
    assert float(loss.detach()) == 0


@pytest.mark.parametrize(
    ("ids", "width", "message"),
    [([0, 5], 4, "person id 5 with only 5"), ([0], 4, "expected"), ([0, 1], 3, "expected")],
)
def test_what_does_not_fit_is_refused(ids: list[int], width: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        frozen_table_loss(units(0, 2, 4), torch.tensor(ids), units(1, 5, width), scale=10.0)


# -- widths ---------------------------------------------------------------------------------------------------------


def test_orthogonal_projection_keeps_every_cosine_while_it_learns() -> None:
    torch.manual_seed(0)
    queue = RingQueue(3, 4)
    queue.write(units(2, 3, 4).float(), torch.full((3,), -1))
    loss = FrozenTableLoss(4, 7, projection="orthogonal", scale=10.0, queue=queue)
    assert loss.projection is not None
    raw, ids, table = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 4, -1]), units(1, 5, 7).float()
    optimiser = torch.optim.SGD(loss.parameters(), lr=0.5)
    before = float(loss(raw, table, output_of(ids)).detach())
    for _ in range(20):
        optimiser.zero_grad()
        loss(raw, table, output_of(ids)).backward()
        optimiser.step()
    assert float(loss(raw, table, output_of(ids)).detach()) < before - 0.1
    projected = F.normalize(loss.projection(raw).detach())
    torch.testing.assert_close(projected @ projected.T, F.normalize(raw) @ F.normalize(raw).T, atol=1e-5, rtol=0)
    assert not [name for name in loss.state_dict() if "queue" in name], "the queue is the student's"


def test_equal_widths_need_no_projection() -> None:
    loss = FrozenTableLoss(4, 4, projection="orthogonal", scale=10.0)
    raw, ids, table = torch.randn(3, 4), torch.tensor([0, -1, 2]), units(1, 5, 4).float()
    assert not list(loss.parameters())
    expected = frozen_table_loss(F.normalize(raw), ids, table, scale=10.0)
    torch.testing.assert_close(loss(raw, table, output_of(ids)), expected)


@pytest.mark.parametrize(("widths", "projection"), [((4, 7), None), ((7, 4), None), ((7, 4), "orthogonal")])
def test_widths_that_need_another_projection_are_refused(widths: tuple[int, int], projection: Any) -> None:
    with pytest.raises(ValueError, match=f"{widths[0]}.*{widths[1]}"):
        FrozenTableLoss(*widths, projection=projection, scale=10.0)


def test_projection_and_its_training_go_on_after_saving() -> None:
    def make(seed: int) -> FrozenTableLoss:
        torch.manual_seed(seed)
        return FrozenTableLoss(3, 5, projection="orthogonal", scale=10.0)

    first, second = make(0), make(1)
    second.load_state_dict(first.state_dict())
    raw, ids, table = torch.randn(4, 3), torch.tensor([0, 1, 2, 3]), units(1, 4, 5).float()
    for loss in (first, second):
        loss(raw, table, output_of(ids)).backward()
        torch.optim.SGD(loss.parameters(), lr=0.1).step()
    values = [loss(raw, table, output_of(ids)) for loss in (first, second)]
    assert torch.equal(*values)


# -- students -------------------------------------------------------------------------------------------------------


def table_file(width: int, unseen: tuple[int, ...] = ()) -> LookupTableFile:
    rows = units(3, PERSON_COUNT, width).float().numpy()
    rows[list(unseen)] = 0
    return LookupTableFile(tuple("abcde"), rows, np.ones(PERSON_COUNT, np.int64), "test")


def model(kind: str, width: int = WIDTH) -> SearchModel:
    torch.manual_seed(0)
    preprocess = Preprocess(input_wh=(64, 96))
    if kind == "hdl":
        trunk = {**TRUNK, "person_channels": width}
        return build_model(validate(HdlRecipe, {"trunk": trunk, **SMALL}, where="test"), preprocess, PERSON_COUNT)
    recipe = {
        "kind": "oim", "trunk": TRUNK, **SMALL, "embedding_dim": width, "queue_size": 6, "scale": 5.0,
        "anchors": {"kind": "person", "heights": [32, 56], "ratio": 2.4}, "train_pre_nms": 64,
    }  # fmt: skip
    return build_model(validate(OimRecipe, recipe, where="test"), preprocess, PERSON_COUNT)


def batch(person_ids: tuple[int, int] = (2, -1)) -> TaskBatch:
    images = torch.randint(0, 256, (2, 96, 64, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    boxes = [torch.tensor([[10.0, 20.0, 30.0, 70.0]]), torch.tensor([[30.0, 30.0, 52.0, 88.0]])]
    return TaskBatch(images, boxes, [torch.tensor([person]) for person in person_ids], ["a", "b"])


def task(student: SearchModel, table: LookupTableFile, **changes: Any) -> DistillationTask:
    settings = {"lambda_oim": 0.1, "scale": 5.0, "projection": None, "where": "t.npz", **changes}
    return DistillationTask(student, [lookup_table_knowledge(student, table, **settings)], loss_weights={})


def step(made: DistillationTask, given: TaskBatch | None = None) -> dict[str, Tensor]:
    torch.manual_seed(5)  # RoI sampling
    parts = made.train()(given or batch())
    parts["loss"].backward()
    made.after_step()
    return parts


def own_memories(student: SearchModel) -> tuple[LookupTable, RingQueue]:
    memory = memory_of(student)
    assert memory is not None
    return memory.table, memory.queue


def test_a_student_with_a_table_gets_a_frozen_copy_and_its_queue_goes_on() -> None:
    student, given = model("oim"), table_file(WIDTH)
    made = task(student, given)
    table, queue = own_memories(student)
    parts = step(made)
    assert torch.equal(table.rows, torch.from_numpy(given.table)), "neither momentum nor gradient"
    assert not table.rows.requires_grad
    assert bool(queue.rows.any()), "the stranger is remembered"
    others = sum(value for name, value in parts.items() if name not in ("loss", "identity"))
    torch.testing.assert_close(parts["loss"], 0.1 * parts["identity"] + others)
    assert made.auxiliary is None
    assert len(made.teachers) == 0, "no forward pass more"


def test_the_frozen_loss_is_oims_at_the_teachers_rows() -> None:
    student, given = model("oim"), table_file(WIDTH)
    made = task(student, given)
    torch.manual_seed(5)
    parts = made.train()(batch())
    torch.manual_seed(5)
    inputs = batch()
    output = student(inputs.images, inputs.boxes, inputs.person_ids)
    own_queue = own_memories(student)[1].rows
    expected = frozen_table_loss(
        F.normalize(output.taps["embedding"]),
        output.roi_person_ids,
        torch.from_numpy(given.table),
        own_queue,
        scale=5.0,
    )
    torch.testing.assert_close(parts["identity"], expected)


def test_an_identity_that_the_teacher_never_saw_is_learnt_as_before() -> None:
    student, given = model("oim"), table_file(WIDTH, unseen=(2,))
    step(task(student, given), batch((2, 3)))
    rows = own_memories(student)[0].rows
    assert bool(rows[2].any())
    assert torch.equal(rows[[0, 1, 3, 4]], torch.from_numpy(given.table)[[0, 1, 3, 4]])


@pytest.mark.parametrize("projection", ["orthogonal", "linear"])
def test_a_student_of_another_width_learns_through_a_projection(projection: str) -> None:
    student = model("oim")
    made = task(student, table_file(12), projection=projection)
    parts = step(made)
    assert made.auxiliary is not None
    assert all(parameter.grad is not None for parameter in made.auxiliary.parameters())
    assert not {id(one) for one in made.auxiliary.parameters()} & {id(one) for one in student.parameters()}
    others = sum(value for name, value in parts.items() if name not in ("loss", "identity", "lookup_table"))
    torch.testing.assert_close(parts["loss"], 0.1 * parts["lookup_table"] + others)
    table, queue = own_memories(student)
    assert bool(table.rows[2].any()), "its own table is written for its own students"
    assert bool(queue.rows.any())


def test_a_student_without_a_table_gets_the_loss_beside_its_own() -> None:
    student = model("hdl")
    made = task(student, table_file(WIDTH), scale=7.0)
    parts = step(made)
    torch.manual_seed(5)
    inputs = batch()
    output = made.train().student(inputs.images, inputs.boxes, inputs.person_ids)
    rows = torch.from_numpy(table_file(WIDTH).table)
    expected = frozen_table_loss(F.normalize(output.taps["embedding"]), output.roi_person_ids, rows, scale=7.0)
    torch.testing.assert_close(parts["lookup_table"], expected)
    others = sum(value for name, value in parts.items() if name not in ("loss", "lookup_table"))
    torch.testing.assert_close(parts["loss"], others + 0.1 * parts["lookup_table"])


@pytest.mark.parametrize(("kind", "scale"), [("oim", 5.0), ("hdl", 10.0)])
def test_the_scale_is_the_students_own_or_oims(kind: str, scale: float) -> None:
    by_default = step(task(model(kind), table_file(12), projection="linear", scale=None))
    stated = step(task(model(kind), table_file(12), projection="linear", scale=scale))
    assert torch.equal(by_default["lookup_table"], stated["lookup_table"])


@pytest.mark.parametrize(
    ("width", "projection", "message"),
    [
        (
            12,
            None,
            r"t\.npz: rows of the look-up table are 12 wide, the student's embeddings 8; .*lookup_table\.projection",
        ),
        (6, None, "rows of the look-up table are 6 wide"),
        (6, "orthogonal", "8 wide, the look-up table's rows 6; .*projection=linear"),
    ],
)
@pytest.mark.parametrize("kind", ["oim", "hdl"])
def test_a_table_of_another_width_is_refused(kind: str, width: int, projection: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        task(model(kind), table_file(width), projection=projection)


def test_a_table_of_other_people_is_refused() -> None:
    short = LookupTableFile((), units(0, 4, WIDTH).float().numpy(), np.ones(4, np.int64), "test")
    with pytest.raises(ValueError, match="4 rows for 5 identities"):
        task(model("oim"), short)


# -- tables of this project's networks ------------------------------------------------------------------------------


def test_embedder_describes_boxes_of_a_frame_as_the_network_does() -> None:
    network = model("hdl").eval()
    embedder = ModelEmbedder(network, "tiny")
    frame = np.random.default_rng(0).integers(0, 256, (192, 128, 3), dtype=np.uint8)  # twice the input
    boxes = np.array([[20, 40, 60, 140], [64, 64, 100, 180]], np.float64)
    found = embedder.embed(frame, boxes)
    image, _ = network.preprocess.letterbox(frame)
    (expected,) = network.embed(torch.from_numpy(image)[None], [torch.from_numpy(boxes / 2).float()])
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert embedder.embedding_dim == found.shape[1] == WIDTH
