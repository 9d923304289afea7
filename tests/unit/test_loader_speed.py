"""The loader's benchmark: it counts what it says, on frames that cost what footage costs, and keeps a record."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from personsearch.benchmarks.loader_speed import generated_jpegs, measure_decoders, measure_loader, textured_frame
from personsearch.benchmarks.results import read_results
from personsearch.cli.bench import app


def test_generated_frames_are_a_data_set_of_distinct_jpegs() -> None:
    with generated_jpegs(3, (320, 192)) as frames:
        paths = frames.paths
        assert len(frames) == len({path.read_bytes() for path in paths}) == 3
        for index in range(3):
            assert frames.frame_bgr(index).shape == (192, 320, 3)
            boxes = frames[index].boxes_xyxy
            assert len(boxes) == 8
            assert (boxes >= 0).all()
            assert (boxes <= (320, 192, 320, 192)).all()
    assert not any(path.exists() for path in paths)


def test_a_generated_frame_is_as_hard_to_encode_as_a_street() -> None:
    frame = textured_frame(0, (1500, 900))
    size = len(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 90])[1])
    assert 0.1 < size / (1500 * 900) < 0.4  # bytes a pixel; street frames at this quality have 0.15 to 0.3
    assert frame.std() > 30


def test_every_setting_is_measured() -> None:
    with generated_jpegs(4, (160, 96)) as frames:
        speeds = measure_loader(frames, inputs=((96, 64), (64, 32)), workers=(0, 1), images=4, rounds=1)
        decoders = measure_decoders(frames.paths, rounds=1)
    found = {(speed.input_wh, speed.decode, speed.workers) for speed in speeds}
    assert found == {(wh, decode, n) for wh in ((96, 64), (64, 32)) for decode in ("full", "reduced") for n in (0, 1)}
    assert all(np.isfinite(speed.images_per_s) and speed.images_per_s > 0 for speed in speeds)
    assert {decoder.name for decoder in decoders} >= {"opencv", "opencv_half", "torchvision_bgr_hwc"}
    assert all(decoder.ms > 0 for decoder in decoders)


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command_prints_and_records(tmp_path: Path, as_json: bool) -> None:
    arguments = ["loader", "--workers", "0", "--images", "1", "--rounds", "1", "--save", str(tmp_path)]
    result = CliRunner().invoke(app, [*arguments, *(["--json"] if as_json else [])])
    assert result.exit_code == 0, result.output
    assert ("images_per_s" if as_json else "images/s") in result.stdout
    (record,) = read_results(tmp_path)
    assert record.kind == "loader"
    assert record.figures["1504x896_full_workers_0"].unit == "images/s"
    assert record.figures["decode_opencv"].unit == "ms"
