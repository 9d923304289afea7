"""A re-ID network as a look-up table: what goes in, what is averaged, and what the figures beside it mean."""

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
from onnx import TensorProto, helper
from typer.testing import CliRunner

from personsearch.cli.app import app
from personsearch.core.errors import InputError
from personsearch.core.lookup_table_file import read_lookup_table
from personsearch.distill.sources.crop_embedder import REID_PRESETS, CropEmbedder
from personsearch.distill.sources.identity_table import (
    CropEmbeddings,
    average_identities,
    centred,
    embed_people,
    measure_separation,
)
from personsearch.distill.sources.network import open_network
from personsearch.distill.sources.pixels import PixelInput

RAW = PixelInput(order="bgr", scale=1, mean=(0, 0, 0), std=(1, 1, 1))
# BGR of three people.
COLOURS = {"anna": (200, 20, 20), "bert": (20, 200, 20), "cleo": (20, 20, 200)}


def unit(values: Any) -> np.ndarray[Any, Any]:
    array = np.asarray(values, np.float64)
    return array / np.linalg.norm(array, axis=-1, keepdims=True)


def painted(*rows: tuple[tuple[int, int, int, int], tuple[int, int, int]]) -> np.ndarray[Any, Any]:
    frame = np.full((60, 80, 3), 90, np.uint8)
    for (x1, y1, x2, y2), colour in rows:
        frame[y1:y2, x1:x2] = colour
    return frame


# -- what goes in --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (RAW, [10, 60, 250]),
        (RAW.model_copy(update={"order": "rgb"}), [250, 60, 10]),
        (RAW.model_copy(update={"scale": 10, "mean": (0, 1, 5), "std": (1, 0.5, 4)}), [1, 10, 5]),
        (
            REID_PRESETS["osnet"].model_copy(update={"input_wh": None}),
            [(250 / 255 - 0.485) / 0.229, (60 / 255 - 0.456) / 0.224, (10 / 255 - 0.406) / 0.225],
        ),
    ],
)
@pytest.mark.parametrize("channels_first", [True, False])
def test_pixels_become_input_as_stated(
    tmp_path: Path, pixels: PixelInput, expected: list[float], channels_first: bool
) -> None:
    network = open_network(tiny.mean_colour(tmp_path / "net.onnx", channels_first=channels_first))
    frame = painted(((10, 10, 30, 50), (10, 60, 250)))
    found = CropEmbedder(network, pixels).embed(frame, np.array([[10, 10, 30, 50]], np.float32))
    np.testing.assert_allclose(found, unit([expected]), atol=1e-5)


@pytest.mark.parametrize("dtype", [TensorProto.UINT8, TensorProto.FLOAT16])
def test_input_of_other_types(tmp_path: Path, dtype: int) -> None:
    network = open_network(tiny.mean_colour(tmp_path / "net.onnx", dtype=dtype))
    frame = painted(((10, 10, 30, 50), (10, 60, 250)))
    found = CropEmbedder(network, RAW).embed(frame, np.array([[10, 10, 30, 50]], np.float32))
    np.testing.assert_allclose(found, unit([[10, 60, 250]]), atol=1e-3)


@pytest.mark.parametrize("batch", [1, 2, "n"])
def test_every_box_is_its_own_crop_whatever_the_batch(tmp_path: Path, batch: int | str) -> None:
    """Five boxes; one reaches over the frame's edge, one ends between pixels."""
    places = [(0, 0, 9, 20), (10, 0, 19, 20), (20, 0, 29, 20), (70, 40, 80, 60), (40, 10, 50, 30)]
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (99, 0, 99), (0, 120, 240)]
    boxes = np.array(places, np.float32)
    boxes[3] = [70, 40, 95, 75]
    boxes[4] = [40.4, 10.6, 49.7, 29.2]
    embedder = CropEmbedder(open_network(tiny.mean_colour(tmp_path / "net.onnx", batch=batch)), RAW)
    found = embedder.embed(painted(*zip(places, colours, strict=True)), boxes)
    np.testing.assert_allclose(found, unit(colours), atol=1e-5)
    assert embedder.embed(painted(), np.zeros((0, 4), np.float32)).shape == (0, 3) == (0, embedder.embedding_dim)


def test_openvino_runs_the_same_network(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")
    onnx_path = tiny.mean_colour(tmp_path / "net.onnx", batch=2)
    openvino.save_model(openvino.convert_model(str(onnx_path)), tmp_path / "net.xml", compress_to_fp16=False)
    frame = painted(((0, 0, 20, 40), (10, 60, 250)), ((30, 0, 50, 40), (7, 7, 200)))
    boxes = np.array([[0, 0, 20, 40], [30, 0, 50, 40], [5, 5, 60, 59]], np.float32)
    first, second = (
        CropEmbedder(open_network(tmp_path / name, threads=1), RAW, "embedding") for name in ("net.onnx", "net.xml")
    )
    np.testing.assert_allclose(second.embed(frame, boxes), first.embed(frame, boxes), atol=1e-5)
    (tmp_path / "net.bin").unlink()
    with pytest.raises(InputError, match=r"net\.bin: no such file; expected the weights of net\.xml beside it"):
        open_network(tmp_path / "net.xml")


# -- what comes out ------------------------------------------------------------------------------------------------


def crops_of(person_count: int, people: list[int], cameras: list[int], rows: Any) -> CropEmbeddings:
    return CropEmbeddings(
        person_count, np.array(people, np.int64), np.array(cameras, np.int64), unit(rows).astype(np.float32)
    )


def test_a_row_is_the_mean_of_unit_vectors() -> None:
    table, counts = average_identities(crops_of(4, [2, 0, 2], [0, 0, 1], [[1, 0], [5, 12], [0, 100]]))
    assert counts.tolist() == [1, 0, 2, 0]
    np.testing.assert_allclose(table, [[5 / 13, 12 / 13], [0, 0], [2**-0.5, 2**-0.5], [0, 0]], atol=1e-6)


def test_separation_worked_by_hand() -> None:
    """Person 0 lies along x in both cameras. Person 1 lies along y in camera 0 and along x in camera 1."""
    found = measure_separation(crops_of(2, [0, 0, 1, 1, 1], [0, 1, 0, 0, 1], [[1, 0], [1, 0], [0, 1], [0, 1], [1, 0]]))
    # Without itself, a crop of person 0 finds x (1 against 1 / sqrt 5); one of y finds (1, 1) before (1, 0); x finds y.
    assert (found.crops, found.identities, found.chance) == (5, 2, 0.5)
    assert found.rank_1 == pytest.approx(4 / 5)
    assert found.own_cosine == pytest.approx((1 + 1 + 2**-0.5 + 2**-0.5 + 0) / 5)
    assert found.row_cosine == pytest.approx(5**-0.5)
    # Without its camera, y is left with x: cosine 0, no better than person 0's.
    assert (found.cross_camera_rank_1, found.cross_camera_crops) == (pytest.approx(2 / 5), 5)


@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(3, 25))
def test_separation_equals_a_loop(seed: int, people: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    ids = np.concatenate([[0, 0, 1], rng.integers(0, people, count)])
    cameras = rng.integers(0, 3, len(ids))
    rows = unit(rng.normal(size=(len(ids), 4)) + 2 * np.eye(5)[ids % 5][:, :4])
    found = measure_separation(crops_of(people + 1, ids.tolist(), cameras.tolist(), rows))
    once, across = [], []
    for crop in range(len(ids)):
        others = [unit(rows[ids == p].sum(axis=0)) for p in set(ids.tolist()) if p != ids[crop]]
        best = max(float(rows[crop] @ other) for other in others)
        same = (ids == ids[crop]) & (np.arange(len(ids)) != crop)
        elsewhere = (ids == ids[crop]) & (cameras != cameras[crop])
        for members, hits in ((same, once), (elsewhere, across)):
            if members.any():
                hits.append(float(rows[crop] @ unit(rows[members].sum(axis=0))) > best)
    assert (found.crops, found.cross_camera_crops) == (len(once), len(across))
    assert found.rank_1 == pytest.approx(np.mean(once))
    assert found.cross_camera_rank_1 == (pytest.approx(np.mean(across)) if across else None)


def test_centring_takes_out_what_everybody_shares() -> None:
    """Three people who differ by little from one direction: their rows become those of a triangle around nothing."""
    shift = np.array([[1, 0, 0], [-0.5, 0.75**0.5, 0], [-0.5, -(0.75**0.5), 0]])
    raw = crops_of(3, [0, 1, 2, 0, 1, 2], [0] * 6, np.tile(np.array([0, 0, 20]) + shift, (2, 1)))
    found = measure_separation(centred(raw))
    assert measure_separation(raw).row_cosine > 0.99
    assert (found.rank_1, found.row_cosine) == (1, pytest.approx(-0.5, abs=1e-5))
    np.testing.assert_allclose(average_identities(centred(raw))[0], shift, atol=1e-5)


def test_nothing_to_compare() -> None:
    with pytest.raises(InputError, match="1 identities with at most 2 crops each"):
        measure_separation(crops_of(3, [1, 1], [0, 0], [[1, 0], [1, 1]]))


# -- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Anna and Bert in three frames by two cameras, someone without identity, an ignore region; Cleo in none."""
    root = tmp_path_factory.mktemp("street")
    (root / "frames").mkdir()
    (root / "annotations").mkdir()
    images, annotations = [], []
    for number in range(3):
        shades = {name: tuple(max(0, c - 10 * number) for c in colour) for name, colour in COLOURS.items()}
        frame = painted(((5, 5, 25, 55), shades["anna"]), ((40, 8, 60, 50), shades["bert"]))
        cv2.imwrite(str(root / f"frames/{number}.png"), frame)
        images.append(
            {
                "id": number,
                "file_name": f"frames/{number}.png",
                "width": 80,
                "height": 60,
                "camera_id": number % 2,
                "frame_index": number,
            }
        )
        people = [([5, 5, 20, 50], 0), ([40, 8, 20, 42], 1), ([62, 5, 10, 30], -1), ([70, 0, 10, 10], -2)]
        annotations += [
            {"image_id": number, "category_id": 1, "bbox": box, "person_id": person, "iscrowd": 0}
            for box, person in people
        ]
    labels = {
        "person_count": 3,
        "person_names": list(COLOURS),
        "images": images,
        "annotations": [{"id": number, **row} for number, row in enumerate(annotations)],
        "categories": [{"id": 1, "name": "person"}],
    }
    (root / "annotations/train.json").write_text(json.dumps(labels))
    description = {"format": "personsearch/1", "name": "street", "terms": "free"}
    (root / "dataset.json").write_text(json.dumps({**description, "splits": {"train": "annotations/train.json"}}))
    return root


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.mean_colour(tmp_path_factory.mktemp("network") / "colour.onnx")


RAW_OPTIONS = ["--order", "bgr", "--scale", "1", "--mean", "0,0,0", "--std", "1,1,1"]


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["table", *map(str, arguments)], catch_exceptions=True)


def test_the_table_of_a_data_set(street: Path, network: Path, tmp_path: Path) -> None:
    result = run(network, street, "--out", tmp_path / "t.npz", *RAW_OPTIONS, "--threads", 1, "--json")
    assert result.exit_code == 0, result.exception
    content = read_lookup_table(tmp_path / "t.npz")
    assert content.names == tuple(COLOURS)
    assert content.counts.tolist() == [3, 3, 0]
    assert content.unseen == (2,)
    shades = [[[max(0, c - 10 * n) for c in COLOURS[name]] for n in range(3)] for name in ("anna", "bert")]
    np.testing.assert_allclose(content.table[:2], unit(unit(shades).mean(axis=1)), atol=1e-5)
    for part in ("colour.onnx (sha256 ", "bgr 8x16, scale 1, mean 0,0,0", "3 of 3 images of street, split train"):
        assert part in content.source
    assert str(tmp_path) not in content.source
    figures = json.loads(result.stdout)
    assert figures["without_crop"] == ["cleo"]
    assert figures["separation"]["table"]["rank_1"] == 1
    assert figures["separation"]["table"]["cross_camera_crops"] == 6
    assert set(figures["separation"]) == {"table", "histogram"}


def test_the_text_names_who_is_missing(street: Path, network: Path, tmp_path: Path) -> None:
    result = run(network, street, "--out", tmp_path / "t.npz", *RAW_OPTIONS, "--images", 2, "--min-crops", 3)
    assert result.exit_code == 0, result.exception
    assert "1 identities without a crop: their rows are zero (cleo)" in result.stdout
    assert "2 identities with less than 3 (anna, bert)" in result.stdout
    assert "colour histogram" in result.stdout


def test_small_boxes_can_be_left_out(street: Path, network: Path, tmp_path: Path) -> None:
    run(network, street, "--out", tmp_path / "t.npz", *RAW_OPTIONS, "--min-height", 45)
    assert not (tmp_path / "t.npz").exists()  # Bert is 42 px high: one identity alone separates from nobody
    run(network, street, "--out", tmp_path / "t.npz", *RAW_OPTIONS, "--min-height", 42)
    assert read_lookup_table(tmp_path / "t.npz").counts.tolist() == [3, 3, 0]


def test_a_centred_table_says_so(street: Path, network: Path, tmp_path: Path) -> None:
    assert run(network, street, "--out", tmp_path / "t.npz", *RAW_OPTIONS, "--centre").exit_code == 0
    content = read_lookup_table(tmp_path / "t.npz")
    assert content.source.endswith(", centred")
    assert float(content.table[0] @ content.table[1]) < -0.9  # two people, on either side of their mean


def test_options_change_a_preset(street: Path, network: Path, tmp_path: Path) -> None:
    arguments = ["--preset", "osnet", "--input", "8x16", "--order", "bgr"]
    assert run(network, street, "--out", tmp_path / "t.npz", *arguments).exit_code == 0
    assert "bgr 8x16, scale 255, mean 0.485,0.456,0.406" in read_lookup_table(tmp_path / "t.npz").source


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing says --order, --scale, --mean, --std"),
        (["--order", "bgr", "--std", "1,1,1"], "nothing says --scale, --mean"),
        (["--preset", "resnet"], "--preset is `resnet`; expected one of osnet, retail-0288"),
        (["--preset", "osnet"], r"the input is 8x16 \(width x height\); expected 128x256, as stated"),
        ([*RAW_OPTIONS, "--input", "8"], "--input is `8`; expected WIDTHxHEIGHT"),
        ([*RAW_OPTIONS, "--mean", "0,0"], "--mean is `0,0`; expected three numbers"),
        ([*RAW_OPTIONS, "--std", "1,0,1"], r"`std.1` is 0.0; expected input should be greater than 0"),
        ([*RAW_OPTIONS, "--order", "grb"], "`order` is 'grb'"),
        ([*RAW_OPTIONS, "--output", "logits"], "no output `logits`; expected one of embedding"),
        ([*RAW_OPTIONS, "--split", "test"], "split `test` is unknown"),
        ([*RAW_OPTIONS, "--images", "1"], "2 identities with at most 1 crops each"),
    ],
)
def test_bad_options(street: Path, network: Path, tmp_path: Path, options: list[str], message: str) -> None:
    result = run(network, street, "--out", tmp_path / "t.npz", *options)
    assert isinstance(result.exception, InputError)
    with pytest.raises(InputError, match=message):
        raise result.exception
    assert not list(tmp_path.iterdir())


def test_bad_networks(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    (tmp_path / "net.pt").write_bytes(b"")
    (tmp_path / "broken.xml").write_text("<net/>")
    copy = [helper.make_node("Identity", ["image"], ["out"])]
    tiny.save(tmp_path / "flat.onnx", copy, {}, ["n", 3], ["out"])
    tiny.save(tmp_path / "whole.onnx", [helper.make_node("ReduceMean", ["image"], ["out"])], {}, [2, 3, 8, 8], ["out"])
    tiny.fixed_outputs(tmp_path / "two.onnx", {"a": np.ones(3), "b": np.ones(3)})
    tiny.fixed_outputs(tmp_path / "nan.onnx", {"a": np.full((1, 3), np.nan)})
    tiny.mean_colour(tmp_path / "open.onnx", wh=("w", "h"))
    for name, message in {
        "absent.onnx": "no such file",
        "broken.onnx": "ONNX Runtime cannot load the network",
        "net.pt": r"ends in `.pt`; expected a network: .onnx",
        "flat.onnx": "the input has shape \\?x3",
        "whole.onnx": "output `out` has shape",
        "two.onnx": "the network has 2 outputs; expected one of a, b",
        "nan.onnx": "output `a` is NaN, infinite or all zero",
        "open.onnx": "leaves the input's size open",
    }.items():
        with pytest.raises(InputError, match=message):
            CropEmbedder(open_network(tmp_path / name), RAW).embed(painted(), np.array([[0, 0, 9, 9]], np.float32))


def test_frames_without_identities(street: Path, network: Path) -> None:
    from personsearch.data import open_dataset

    embedder = CropEmbedder(open_network(network), RAW)
    with pytest.raises(
        InputError, match="3 images show nobody with an identity; expected boxes with a person_id from 0, 300 px high"
    ):
        embed_people({"table": embedder}, open_dataset(street, "train"), range(3), min_height_px=300)


# -- real networks -------------------------------------------------------------------------------------------------


@pytest.mark.skipif("PERSON_SEARCH_DATA" not in os.environ, reason="PERSON_SEARCH_DATA names no folder of real data")
@pytest.mark.parametrize(
    ("name", "preset"),
    [("osnet_x0_25_msmt17.onnx", "osnet"), ("person-reidentification-retail-0288.xml", "retail-0288")],
)
def test_known_networks_know_who_comes_back(name: str, preset: str) -> None:
    """Re-entry on PETS S2L1, every 10th frame, on true boxes; a colour histogram has a rank-1 below 0.6 there."""
    from personsearch.benchmarks.reentry import measure_reentry, read_sequence

    root = Path(os.environ["PERSON_SEARCH_DATA"])
    if name.endswith(".xml"):
        pytest.importorskip("openvino", reason="OpenVINO is not installed")
    embedder = CropEmbedder(open_network(root / "weights" / name, threads=1), REID_PRESETS[preset])
    frames = read_sequence(root / "pets09-s2l1")[::10]
    assert measure_reentry(embedder, frames, name=name, sequence="PETS", detector=None).rank_1 > 0.88
