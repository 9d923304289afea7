"""A data set folder and recipes so small that a run takes a second; shared by the tests of the training stages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from personsearch.core.recipe import validate
from personsearch.core.recipes import DistillRecipe, TrainRecipe

PERSON_COUNT = 4
FRAME_WH = (128, 96)
SMALL = {
    "anchor_heights": [32, 56], "rpn_channels": 8, "pool_size": 4, "rois_per_image": 8, "train_proposals": 16,
}  # fmt: skip
STUDENT_TRUNK = {"kind": "depthwise", "stem_channels": 4, "channels": [4, 6, 8], "modules": 1, "person_channels": 8}
TEACHER_TRUNK = {"kind": "resnet_c4", "depth": 18, "width": 4}


def write_folder(root: Path, *, images: int = 10, person_count: int = PERSON_COUNT, name: str = "tiny") -> Path:
    """Frames of noise with a bar of one colour for each person; the first frame shows nobody, the second a stranger."""
    rng = np.random.default_rng(0)
    (root / "frames").mkdir(parents=True)
    (root / "annotations").mkdir()
    image_rows, annotation_rows = [], []
    for index in range(images):
        frame = rng.integers(90, 140, (FRAME_WH[1], FRAME_WH[0], 3), dtype=np.uint8)
        for person_id in () if index == 0 else (-1,) if index == 1 else (index % person_count, -1):
            x, y, w, h = int(rng.integers(0, 100)), int(rng.integers(0, 40)), 22, 54
            frame[y : y + h, x : x + w] = (40 * (person_id + 1), 255 - 40 * (person_id + 1), 128)
            row = {"id": len(annotation_rows), "image_id": index, "bbox": [x, y, w, h], "category_id": 1}
            annotation_rows.append({**row, "person_id": person_id, "iscrowd": 0})
        cv2.imwrite(str(root / "frames" / f"{index}.png"), frame)
        row = {"id": index, "file_name": f"frames/{index}.png", "width": FRAME_WH[0], "height": FRAME_WH[1]}
        image_rows.append({**row, "camera_id": 0, "frame_index": index})
    split = {
        "person_count": person_count, "images": image_rows, "annotations": annotation_rows,
        "categories": [{"id": 1, "name": "person"}], "queries": [],
    }  # fmt: skip
    (root / "annotations" / "train.json").write_text(json.dumps(split))
    head = {"format": "personsearch/1", "name": name, "terms": "made by a test", "generator": None}
    (root / "dataset.json").write_text(
        json.dumps({**head, "splits": {"train": "annotations/train.json"}, "videos": {}})
    )
    return root


def teacher_recipe(root: Path, **changes: Any) -> TrainRecipe:
    """A teacher for `write_folder`: five steps an epoch, three epochs."""
    return validate(TrainRecipe, {**_content(root, "tiny-teacher", TEACHER_TRUNK), **changes}, where="test")


def student_recipe(root: Path, teacher: Path, **changes: Any) -> DistillRecipe:
    """A student under ``teacher``, with every level of knowledge."""
    content = {**_content(root, "tiny-student", STUDENT_TRUNK), "teacher": str(teacher)}
    hierarchical = {"lambda_attention": 20, "lambda_feature": 20}
    return validate(DistillRecipe, {**content, "hierarchical": hierarchical, **changes}, where="test")


def _content(root: Path, name: str, trunk: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name, "seed": 7, "model": {"trunk": trunk, **SMALL, "dropout": 0.2},
        "preprocess": {"input_wh": [96, 64]}, "data": {"root": str(root), "workers": 0},
        "optimiser": {"name": "adamw", "lr": 0.003, "schedule": "cosine", "warmup_steps": 2},
        "epochs": 3, "batch_images": 2,
    }  # fmt: skip
