"""A detector's boxes as a data set: every output layout worked by hand, geometry, and the folder that is written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tiny_networks as tiny
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from personsearch.cli.app import app
from personsearch.core.errors import InputError
from personsearch.core.geometry import box_iou
from personsearch.data import open_dataset
from personsearch.data.images import read_image_bgr
from personsearch.distill.sources.box_detector import DETECTOR_PRESETS, BoxDetector, DetectorInput
from personsearch.distill.sources.detector_outputs import decode_fastestdet, decode_ssd, suppress, to_corners
from personsearch.distill.sources.network import open_network
from personsearch.distill.sources.pixels import RAW_BGR

SSD = DetectorInput(pixels=RAW_BGR, fit="stretch", layout="ssd", person_class=1, nms_iou=1)
LISTS = SSD.model_copy(update={"layout": "boxes-scores", "person_class": 0})
# Two people in a frame of 80x60, as shares: pixels 8..24 x 6..54 and 40..72 x 15..45.
SHARES = [[0.1, 0.1, 0.3, 0.9], [0.5, 0.25, 0.9, 0.75]]
PIXELS = [[8, 6, 24, 54], [40, 15, 72, 45]]


def ssd_rows(*rows: tuple[float, ...]) -> np.ndarray[Any, Any]:
    """``[1, 1, N, 7]``."""
    return np.array(rows, np.float32)[None, None]


TWO_PEOPLE = ssd_rows(
    (0, 1, 0.6, *SHARES[0]),
    (0, 2, 0.9, 0, 0, 1, 1),  # of another class
    (0, 1, 0.8, *SHARES[1]),
    (0, 1, 0.2, 0.4, 0.4, 0.6, 0.6),  # below the threshold
    (-1, 0, 0, 0, 0, 0, 0),  # the end
    (0, 1, 0.9, 0, 0, 0.5, 0.5),
)


def detect(path: Path, settings: DetectorInput, wh: tuple[int, int] = (80, 60)) -> tuple[list[Any], list[Any]]:
    found = BoxDetector(open_network(path), settings).infer([np.zeros((wh[1], wh[0], 3), np.uint8)])[0]
    assert found.embeddings.shape == (len(found), 0)
    return np.round(found.boxes_xyxy, 3).tolist(), [round(score, 4) for score in found.scores.tolist()]


# -- layouts -------------------------------------------------------------------------------------------------------


def test_ssd(tmp_path: Path) -> None:
    path = tiny.fixed_outputs(tmp_path / "net.onnx", {"out": TWO_PEOPLE})
    assert detect(path, SSD) == ([PIXELS[1], PIXELS[0]], [0.8, 0.6])
    assert [len(part) for part in decode_ssd(TWO_PEOPLE.astype(np.float64), 3)] == [0, 0]


@pytest.mark.parametrize(
    ("code", "unit", "factor"),
    [("xyxy", "share", 1), ("xywh", "share", 1), ("cxcywh", "share", 1), ("cxcywh", "pixel", (32, 16, 32, 16))],
)
@pytest.mark.parametrize("scores", ["one", "column", "classes", "labels"])
@pytest.mark.parametrize("batched", [True, False])
def test_boxes_and_scores(tmp_path: Path, code: Any, unit: Any, factor: Any, scores: str, batched: bool) -> None:
    coded = {
        "xyxy": [*SHARES, [0, 0, 1, 1]],
        "xywh": [[0.1, 0.1, 0.2, 0.8], [0.5, 0.25, 0.4, 0.5], [0, 0, 1, 1]],
        "cxcywh": [[0.2, 0.5, 0.2, 0.8], [0.7, 0.5, 0.4, 0.5], [0.5, 0.5, 1, 1]],
    }[code]
    outputs: dict[str, Any] = {"boxes": np.array(coded) * factor}
    changes: dict[str, Any] = {"code": code, "unit": unit}
    if scores == "labels":
        outputs |= {"scores": np.array([0.9, 0.7, 0.8]), "labels": np.array([3.0, 3.0, 1.0])}
        changes |= {"labels_output": "labels", "person_class": 3}
    elif scores == "classes":
        outputs["scores"] = np.array([[0.1, 0.9], [0.2, 0.7], [0.8, 0.2]])
        changes["person_class"] = 1
    else:
        outputs["scores"] = np.array([0.9, 0.7, 0.2])[:, None] if scores == "column" else np.array([0.9, 0.7, 0.2])
    if batched:
        outputs = {name: value[None] for name, value in outputs.items()}
    path = tiny.fixed_outputs(tmp_path / "net.onnx", outputs)
    assert detect(path, LISTS.model_copy(update=changes)) == (PIXELS, [0.9, 0.7])


def test_yolov8(tmp_path: Path) -> None:
    """Columns of centre and sides in pixels of the input, 32x16, then the scores of two classes."""
    columns = np.array([[6.4, 22.4, 16], [8, 8, 8], [6.4, 12.8, 30], [12.8, 8, 15], [0.1, 0.2, 0.9], [0.9, 0.7, 0.1]])
    path = tiny.fixed_outputs(tmp_path / "net.onnx", {"out": columns[None]})
    settings = SSD.model_copy(update={"layout": "yolov8", "person_class": 1})
    assert detect(path, settings) == (PIXELS, [0.9, 0.7])


def test_fastestdet() -> None:
    """A grid of 4x2 cells and three classes; one cell shows a person, one another class."""
    maps = np.full((8, 2, 4), -9.0)
    maps[0], maps[5:] = 0.01, [[[0.2]], [[0.3]], [[0.5]]]
    maps[:, 1, 2] = [0.8, np.arctanh(0.5), np.arctanh(-0.25), 0.0, np.log(1 / 3), 0.7, 0.2, 0.1]
    maps[:, 0, 1] = [0.9, 0.0, 0.0, 0.0, 0.0, 0.1, 0.8, 0.1]
    boxes, scores = decode_fastestdet(maps, 0)
    # Centre: column 2.5 of 4, row 0.75 of 2; sides: half the width, a quarter of the height.
    np.testing.assert_allclose(boxes, [[0.625 - 0.25, 0.375 - 0.125, 0.625 + 0.25, 0.375 + 0.125]])
    np.testing.assert_allclose(scores, [0.8**0.6 * 0.7**0.4])
    assert len(decode_fastestdet(maps, 1)[0]) == 1
    assert len(decode_fastestdet(maps, 2)[0]) == 6


@given(st.integers(0, 10**6), st.integers(0, 30), st.sampled_from([0.0, 0.3, 0.7, 1.0]))
def test_suppression_equals_a_loop(seed: int, count: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 40, (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 40, (count, 2))], axis=1).astype(np.float32)
    scores = rng.choice(np.linspace(0.1, 0.9, 7), count).astype(np.float32)
    kept: list[int] = []
    for row in sorted(range(count), key=lambda one: (-scores[one], one)):
        if all(box_iou(boxes[row : row + 1], boxes[other : other + 1])[0, 0] <= threshold for other in kept):
            kept.append(row)
    assert suppress(boxes, scores, threshold).tolist() == kept


@given(st.lists(st.tuples(*[st.floats(-50, 50)] * 2, *[st.floats(0, 50)] * 2), min_size=1, max_size=5))
def test_codes_of_one_box(rows: list[tuple[float, ...]]) -> None:
    xywh = np.array(rows)
    xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    centred = np.concatenate([xywh[:, :2] + xywh[:, 2:] / 2, xywh[:, 2:]], axis=1)
    for boxes, code in ((xywh, "xywh"), (centred, "cxcywh"), (xyxy, "xyxy")):
        # The codes above are typed as text.
        np.testing.assert_allclose(to_corners(boxes, code), xyxy, atol=1e-9)  # type: ignore[arg-type]


# -- geometry ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fit", "expected"), [("stretch", [20, 10, 60, 30]), ("letterbox", [20, 0, 60, 40])])
def test_the_way_back_to_the_frame(tmp_path: Path, fit: Any, expected: list[int]) -> None:
    """The middle of an input of 32x32 in a frame of 80x40, which a letterbox puts into its rows 8 to 24."""
    path = tiny.fixed_outputs(
        tmp_path / "net.onnx", {"out": ssd_rows((0, 1, 0.9, 0.25, 0.25, 0.75, 0.75))}, wh=(32, 32)
    )
    assert detect(path, SSD.model_copy(update={"fit": fit}), wh=(80, 40)) == ([expected], [0.9])


def test_boxes_end_at_the_frame_and_slivers_go(tmp_path: Path) -> None:
    rows = ssd_rows((0, 1, 0.9, -0.5, 0.5, 0.5, 1.5), (0, 1, 0.8, 0.999, 0, 1, 1), (0, 1, 0.7, 1.1, 0, 1.5, 1))
    path = tiny.fixed_outputs(tmp_path / "net.onnx", {"out": rows})
    assert detect(path, SSD) == ([[0, 30, 40, 60]], [0.9])


def test_the_letterbox_is_padded_and_pixels_are_seen(tmp_path: Path) -> None:
    """The score is the mean of the input: half of it a white frame, half padding of 114, in 0..1."""
    outputs = {"boxes": np.array([[0.0, 0, 40, 40]]), "scores": np.array([1.0])}
    path = tiny.fixed_outputs(tmp_path / "net.onnx", outputs, wh=(32, 32), brightness=True)
    pixels = RAW_BGR.model_copy(update={"scale": 255.0})
    detector = BoxDetector(open_network(path), LISTS.model_copy(update={"fit": "letterbox", "pixels": pixels}))
    found = detector.infer([np.full((40, 80, 3), 255, np.uint8)])[0]
    np.testing.assert_allclose(found.scores, [(1 + 114 / 255) / 2], atol=1e-5)


# -- the folder ----------------------------------------------------------------------------------------------------


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["boxes", *map(str, arguments)])


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.fixed_outputs(tmp_path_factory.mktemp("net") / "two.onnx", {"out": TWO_PEOPLE})


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    for number in range(5):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((60, 80, 3), 40 * number, np.uint8))
    return folder


def test_images_become_a_data_set(network: Path, frames: Path, tmp_path: Path) -> None:
    result = run(network, frames, "--preset", "retail-0013", "--out", tmp_path / "out", "--every", 2, "--camera", 7)
    assert result.exit_code == 0, result.exception
    assert "6 boxes in 3 images, 0 images without one; the boxes weigh as much as 4 certain ones" in result.stdout
    dataset = open_dataset(tmp_path / "out", "train")
    assert (len(dataset), dataset.person_count, dataset.name, dataset.terms) == (3, 0, "out", "unknown")
    for number in range(3):
        sample = dataset[number]
        assert np.round(sample.boxes_xyxy, 3).tolist() == [PIXELS[1], PIXELS[0]]
        assert sample.person_ids.tolist() == [-1, -1]
        assert sample.weights is not None
        assert sample.weights.tolist() == pytest.approx([0.8, 0.6])
        assert (sample.camera_id, sample.frame_index, sample.image_wh) == (7, 2 * number, (80, 60))
        assert abs(int(dataset.frame_bgr(number).mean()) - 80 * number) < 3
    description = json.loads((tmp_path / "out/dataset.json").read_text())
    assert description["labelled_by"].startswith("two.onnx (sha256 ")
    assert str(network.parent) not in description["labelled_by"]


def test_a_data_set_keeps_its_files_and_loses_its_labels(network: Path, frames: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    run(network, frames, "--preset", "retail-0013", "--png", "--out", first, "min_score=0.7")
    assert run(network, first, "--preset", "retail-0013", "--out", second, "--max-frames", 3).exit_code == 0
    dataset = open_dataset(second, "train")
    assert [len(dataset[number].person_ids) for number in range(3)] == [2, 2, 2]
    for number in range(3):
        path = f"frames/{number + 1:06d}.png"
        assert os.stat(first / path).st_ino == os.stat(second / path).st_ino
        np.testing.assert_array_equal(dataset.frame_bgr(number), read_image_bgr(frames / f"{number}.png"))
    copied = tmp_path / "copied"
    run(network, first, "--preset", "retail-0013", "--out", copied, "--images", "copy")
    assert (first / "frames/000001.png").stat().st_ino != (copied / "frames/000001.png").stat().st_ino


def test_a_video(network: Path, tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (80, 60))
    for number in range(6):
        writer.write(np.full((60, 80, 3), 40 * number, np.uint8))
    writer.release()
    arguments = ["--preset", "retail-0013", "--out", tmp_path / "out", "--max-frames", 4, "--terms", "ours", "--json"]
    result = run(network, tmp_path / "v.avi", *arguments)
    assert result.exit_code == 0, result.exception
    counts = json.loads(result.stdout)
    assert (counts["images"], counts["boxes"], counts["weight"]) == (4, 8, pytest.approx(5.6))
    dataset = open_dataset(tmp_path / "out", "train")
    assert (len(dataset), dataset.terms) == (4, "ours")


def test_frames_without_people(frames: Path, tmp_path: Path) -> None:
    nobody = tiny.fixed_outputs(tmp_path / "none.onnx", {"out": ssd_rows((-1, 0, 0, 0, 0, 0, 0))})
    result = run(nobody, frames, "--preset", "retail-0013", "--out", tmp_path / "out")
    assert "0 boxes in 5 images, 5 images without one" in result.stdout
    assert len(open_dataset(tmp_path / "out", "train")[4].person_ids) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "key `pixels` is missing"),
        (["--preset", "yolov9"], "--preset is `yolov9`; expected one of fastestdet, retail-0013, yolov8"),
        (["--preset", "retail-0013", "fit=crop"], "`fit` is 'crop'"),
        (["--preset", "retail-0013", "size=3"], "unknown key `size`"),
        (["--preset", "retail-0013", "pixels.input_wh=[64,64]"], "the input is 32x16 .*; expected 64x64"),
        (["--preset", "fastestdet"], r"outputs are `out` \(1, 1, 6, 7\); expected layout fastestdet with class 0"),
        (["--preset", "yolov8"], r"outputs are `out` \(1, 1, 6, 7\); expected layout yolov8"),
        (["--preset", "yolov8", "layout=boxes-scores"], "has no output `boxes`; expected one of out"),
    ],
)
def test_bad_settings(network: Path, frames: Path, tmp_path: Path, options: list[str], message: str) -> None:
    result = run(network, frames, *options, "--out", tmp_path / "out")
    assert isinstance(result.exception, InputError)
    with pytest.raises(InputError, match=message):
        raise result.exception
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"boxes": np.ones((1, 3, 4)), "scores": np.ones((1, 2))}, r"`scores` \(1, 2\)"),
        ({"boxes": np.ones((1, 3, 5)), "scores": np.ones((1, 3))}, r"`boxes` \(1, 3, 5\)"),
        ({"boxes": np.ones((1, 3, 4)), "scores": np.full((1, 3), 7.0)}, "a score is above 1"),
        ({"boxes": np.full((1, 3, 4), np.nan), "scores": np.ones((1, 3))}, "not finite"),
    ],
)
def test_outputs_that_are_not_as_stated(tmp_path: Path, outputs: dict[str, Any], message: str) -> None:
    path = tiny.fixed_outputs(tmp_path / "net.onnx", outputs)
    with pytest.raises(InputError, match=message):
        detect(path, LISTS)


def test_two_outputs_are_no_single_layout(tmp_path: Path) -> None:
    path = tiny.fixed_outputs(tmp_path / "net.onnx", {"a": TWO_PEOPLE, "b": TWO_PEOPLE})
    with pytest.raises(InputError, match="has outputs a, b; expected one of layout ssd; is it layout boxes-scores"):
        BoxDetector(open_network(path), SSD)


def test_nothing_is_overwritten(network: Path, frames: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("labels")
    result = run(network, frames, "--preset", "retail-0013", "--out", tmp_path)
    assert isinstance(result.exception, InputError)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_unreadable_frame_leaves_nothing(network: Path, frames: Path, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / "0.png").write_bytes((frames / "0.png").read_bytes())
    (folder / "1.png").write_bytes(b"no image")
    result = run(network, folder, "--preset", "retail-0013", "--out", tmp_path / "out")
    assert isinstance(result.exception, InputError)
    assert [path.name for path in tmp_path.iterdir()] == ["frames"]


# -- real detectors ------------------------------------------------------------------------------------------------


@pytest.mark.skipif("PERSON_SEARCH_DATA" not in os.environ, reason="PERSON_SEARCH_DATA names no folder of real data")
@pytest.mark.parametrize(
    ("name", "preset", "recall", "precision"),
    [("FastestDet.onnx", "fastestdet", 0.70, 0.45), ("person-detection-retail-0013.xml", "retail-0013", 0.80, 0.90)],
)
def test_known_detectors_on_real_footage(name: str, preset: str, recall: float, precision: float) -> None:
    """A wrong colour order or scale costs more than the margins here; PETS S2L1, every 20th frame."""
    from personsearch.benchmarks.reentry import read_sequence
    from personsearch.evaluation import detection_scores

    root = Path(os.environ["PERSON_SEARCH_DATA"])
    if name.endswith(".xml"):
        pytest.importorskip("openvino", reason="OpenVINO is not installed")
    detector = BoxDetector(open_network(root / "weights" / name, threads=1), DETECTOR_PRESETS[preset])
    frames = read_sequence(root / "pets09-s2l1")[::20]
    found = detector.infer([read_image_bgr(frame.path) for frame in frames])
    scores = detection_scores(found, frames, score_threshold=0.0)
    assert scores.recall > recall
    assert scores.precision > precision
