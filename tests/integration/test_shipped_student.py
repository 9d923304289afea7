"""The checkpoint that ships is that of the artifact that ships: who exports it gets the same network."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from personsearch.benchmarks.systems import TorchSystem, open_system
from personsearch.core.files import sha256_file
from personsearch.core.manifest import load_artifact
from personsearch.export.frames import drawn_frames
from personsearch.models.checkpoint import load_model

ARTIFACTS = Path(__file__).parents[2] / "artifacts"
ARTIFACT, CHECKPOINT = ARTIFACTS / "street-student-fp32", ARTIFACTS / "street-student/checkpoint.pt"


def test_the_manifest_names_the_checkpoint() -> None:
    assert load_artifact(ARTIFACT).checkpoint_sha256 == sha256_file(CHECKPOINT)


def test_checkpoint_and_artifact_find_and_embed_alike() -> None:
    preprocess = load_artifact(ARTIFACT).preprocess
    model, _ = load_model(CHECKPOINT, input_wh=preprocess.input_wh)
    model.score_threshold = 0.001
    trained, shipped = TorchSystem(model, ""), open_system(ARTIFACT, 1, score_threshold=0.001)
    frames = drawn_frames(preprocess, 2)
    for expected, found in zip(trained.infer(frames), shipped.infer(frames), strict=True):
        assert len(found) == len(expected) > 0
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
        np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=0.05)
    boxes = np.array([[100, 150, 180, 380], [500, 200, 560, 340]], np.float32)
    cosines = (trained.embed(frames[0], boxes) * shipped.embed(frames[0], boxes)).sum(axis=1)
    np.testing.assert_allclose(cosines, 1, atol=1e-5)
