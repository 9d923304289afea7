"""The gate as a whole: candidates, verdict, end figures on labelled images, and what it says it could not run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gate_material import IMAGES, PEOPLE, PREPROCESS, QUERY_BOXES, KnownGraphs, gate_frames, write_labelled

from personsearch.core.errors import InputError
from personsearch.core.gate_recipe import GateRecipe
from personsearch.core.manifest import HeldOutPart, TrainingData
from personsearch.export.end_figures import EndFigures, LabelledImages, drops, labelled_images, measure_end_figures
from personsearch.export.gate import DETECTOR, NO_LABELS, Candidate, Reference, gate_steps, merged, run_gate
from personsearch.export.parity_table import agreement_rows
from personsearch.export.rows import Graphs


def judge(
    *opens: Callable[[], Graphs], labelled: LabelledImages | None = None, reference: Graphs | None = None, **gate: Any
) -> dict[str, Any]:
    candidates = [Candidate(f"engine-{number} 1.0", "fp32", one) for number, one in enumerate(opens)]
    graphs = reference or KnownGraphs()
    steps: list[int] = []
    report = run_gate(
        Reference([graphs], score_threshold=0.5, query_boxes=QUERY_BOXES),
        candidates,
        gate_frames(),
        GateRecipe.model_validate(gate),
        frames_from="known",
        labelled=labelled,
        not_run=["abacus: not installed"],
        advance=lambda: steps.append(1),
    )
    assert len(steps) == gate_steps(len(candidates), IMAGES, 0 if labelled is None else len(labelled))
    json.dumps(report, allow_nan=False)  # it goes into the manifest
    return report


def test_every_candidate_is_judged_and_named() -> None:
    report = judge(KnownGraphs, lambda: KnownGraphs(shifts_px=3), lambda: KnownGraphs(mixes=True))
    assert [one["passed"] for one in report["candidates"]] == [True, False, False]
    assert not report["passed"]
    assert "engine-1 fp32: a box is 3.00 px off" in report["failures"]
    assert any(words.startswith("engine-2 fp32: an embedding has cosine") for words in report["failures"])
    honest, shifted, mixed = report["candidates"]
    assert honest["iou"] == {"mean": 1, "p1": 1, "min": 1}
    assert honest["ranking"]["rank_correlation"] == 1
    assert shifted["iou"]["mean"] == pytest.approx(9 / 15)  # 12 wide, moved by 3
    assert mixed["ranking"]["top_1_agreement"] < 1


def test_what_rounding_to_half_turns_is_a_tie_of_fp16_alone() -> None:
    """A person who is lost when every weight moves by half's rounding is no fault of fp16, and one of fp32."""

    def graphs(image: int) -> KnownGraphs:
        return KnownGraphs(forgets=(image, 2))

    candidates = [
        Candidate("a 1.0", "fp16", lambda: graphs(0)),
        Candidate("b 1.0", "fp32", lambda: graphs(0)),
        Candidate("c 1.0", "fp16", lambda: graphs(1)),
        Candidate("d 1.0", "fp16", KnownGraphs),
    ]
    reference = Reference([KnownGraphs(), KnownGraphs()], 0.5, QUERY_BOXES, half=[graphs(0)])
    reports = run_gate(reference, candidates, gate_frames(), GateRecipe(), frames_from="known")["candidates"]
    assert [report["passed"] for report in reports] == [True, False, False, True]
    assert [report["unsettled"] for report in reports] == [1, 0, 1, 1]
    plain = Reference([KnownGraphs()], 0.5, QUERY_BOXES)
    assert not run_gate(plain, candidates[:1], gate_frames(), GateRecipe(), frames_from="known")["passed"]


def test_the_report_says_what_was_looked_at_and_what_was_not() -> None:
    report = judge(KnownGraphs)
    assert (report["frames"], report["frames_from"], report["reference"]) == (IMAGES, "known", "torch")
    assert (report["scenes"], report["source_sizes"]) == ({"usual": IMAGES}, ["64x48"])
    assert report["end_figures"] is None
    assert report["not_run"] == ["abacus: not installed", NO_LABELS]


def test_a_later_run_of_the_gate_can_only_add_to_the_verdict() -> None:
    first, second = judge(KnownGraphs), judge(lambda: KnownGraphs(shifts_px=3))
    both = merged(first, {**second, "reference": "onnxruntime fp32"})
    assert not both["passed"]
    assert both["failures"] == second["failures"]
    assert [one.get("reference") for one in both["candidates"]] == [None, "onnxruntime fp32"]
    assert both["not_run"] == first["not_run"]  # the same reasons, once
    assert not merged(second, first)["passed"]
    (_, row) = agreement_rows(both, "fp32")
    assert row[0] == "engine-0 fp32 against onnxruntime fp32"


def test_an_engine_that_refuses_the_graph_fails_alone() -> None:
    def refuses() -> Graphs:
        raise RuntimeError("nested\nno kernel for Frobnicate")

    report = judge(KnownGraphs, refuses)
    assert [one["passed"] for one in report["candidates"]] == [True, False]
    assert report["failures"] == ["engine-1 fp32: does not open: no kernel for Frobnicate"]


def test_a_detector_is_compared_without_embeddings() -> None:
    bare = KnownGraphs(bare=True)
    report = judge(lambda: bare, lambda: KnownGraphs(bare=True, shifts_px=3), reference=bare)
    assert [one["passed"] for one in report["candidates"]] == [True, False]
    assert "embedding_cosine" not in report["candidates"][0]
    assert DETECTOR in report["not_run"]


def test_limits_of_a_recipe_change_one_at_a_time() -> None:
    report = judge(lambda: KnownGraphs(shifts_px=3), fp32={"max_box_difference_px": 4})
    assert report["passed"]
    assert report["candidates"][0]["limits"]["min_cosine"] == 0.999


def test_figures_worked_out_by_hand(tmp_path: Path) -> None:
    labelled = labelled_images(write_labelled(tmp_path / "set"), PREPROCESS, images=100)
    assert labelled is not None
    assert len(labelled) == IMAGES
    queries = PEOPLE * IMAGES  # every image is a camera of its own
    perfect, blinder = measure_end_figures(
        [KnownGraphs(), KnownGraphs(forgets=(0, 2))], labelled, score_threshold=0.5, query_boxes=QUERY_BOXES
    )
    assert perfect == EndFigures(IMAGES, queries, 1.0, 1.0, 1.0, 1.0)
    people = PEOPLE * IMAGES
    assert blinder.detection_recall == pytest.approx((people - 1) / people)
    assert blinder.detection_ap == pytest.approx((people - 1) / people)
    # Person 2 is searched from six images; five of these searches miss one of five answers, the sixth none.
    assert blinder.search_map == pytest.approx(1 - 5 * (1 / 5) / queries)
    assert blinder.top_1 == 1
    lost = drops(perfect, blinder)
    assert lost == {
        "detection_ap": pytest.approx(5.556, abs=1e-3),
        "search_map": pytest.approx(5.556, abs=1e-3),
        "top_1": 0,
    }


def test_the_gate_holds_the_end_figures_to_their_limits(tmp_path: Path) -> None:
    labelled = labelled_images(write_labelled(tmp_path / "set"), PREPROCESS, images=100)
    loose = {"min_matched": 0.5, "max_search_map_drop": 4, "max_detection_ap_drop": 6, "min_top_k_overlap": 0.5}
    report = judge(lambda: KnownGraphs(forgets=(0, 2)), labelled=labelled, fp32=loose)
    assert report["failures"] == ["engine-0 fp32: search mAP falls by 5.56 points, 4 are allowed"]
    assert report["candidates"][0]["end_figures"]["drop_points"]["search_map"] == pytest.approx(5.556, abs=1e-3)
    assert report["end_figures"]["checkpoint"]["search_map"] == 1
    assert "training may have seen" in report["end_figures"]["on"]
    assert NO_LABELS not in report["not_run"]
    better = judge(KnownGraphs, labelled=labelled, reference=KnownGraphs(forgets=(0, 2)), fp32={"min_matched": 0.5})
    assert all("falls by" not in words for words in better["failures"])  # a figure may rise


def test_validation_comes_before_train_and_test_is_never_taken(tmp_path: Path) -> None:
    both = labelled_images(write_labelled(tmp_path / "both", splits=("test", "train", "validation")), PREPROCESS, 100)
    assert both is not None
    assert "split validation" in both.description
    train = labelled_images(write_labelled(tmp_path / "train", splits=("test", "train")), PREPROCESS, 100)
    assert train is not None
    assert "split train" in train.description
    with pytest.raises(InputError, match="splits test only"):
        labelled_images(write_labelled(tmp_path / "test", splits=("test",)), PREPROCESS, 100)


def test_images_that_training_left_out_are_taken_where_the_checkpoint_names_them(tmp_path: Path) -> None:
    root = write_labelled(tmp_path / "set")
    part = HeldOutPart(share=0.5, seed=3, unit="cameras", groups=3, images=3, sha256="0" * 64)
    known = TrainingData(name="known", terms="", identities=PEOPLE, held_out=part)
    held_out = labelled_images(root, PREPROCESS, 100, [known])
    assert held_out is not None
    assert "training left out" in held_out.description
    assert len(held_out) == IMAGES // 2
    other = TrainingData(name="another", terms="", identities=1, held_out=part)
    elsewhere = labelled_images(root, PREPROCESS, 100, [other])
    assert elsewhere is not None
    assert "may have seen" in elsewhere.description


def test_as_many_images_as_asked_for_and_none_without_people(tmp_path: Path) -> None:
    some = labelled_images(write_labelled(tmp_path / "set"), PREPROCESS, images=3)
    assert some is not None
    assert 1 < len(some) < IMAGES
    assert labelled_images(write_labelled(tmp_path / "empty", people=False), PREPROCESS, 100) is None


def test_a_drop_is_in_points_and_only_where_both_were_measured() -> None:
    first, second = EndFigures(1, 1, 0.9, 0.9, 0.5, 0.25), EndFigures(1, 1, 0.8, 0.9, 0.75, None)
    lost = drops(first, second)
    assert set(lost) == {"detection_ap", "search_map"}
    assert np.allclose([lost["detection_ap"], lost["search_map"]], [10, -25])
