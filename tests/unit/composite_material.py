"""Crops, streets and a real frame, small enough to be drawn by each test module that needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml


def person_crop(hue: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """A grey wall with a coloured figure before it."""
    crop = np.full((128, 64, 3), 120, dtype=np.uint8)
    colour = cv2.cvtColor(np.full((1, 1, 3), (hue, 230, 200), np.uint8), cv2.COLOR_HSV2BGR)[0, 0].tolist()
    cv2.ellipse(crop, (32, 16), (8, 11), 0, 0, 360, (60, 90, 150), -1)
    cv2.rectangle(crop, (20, 28), (44, 78), colour, -1)
    cv2.rectangle(crop, (22, 78), (42, 122), (40, 30, 20), -1)
    return np.clip(crop + rng.normal(0, 4, crop.shape), 0, 255).astype(np.uint8)


def write_material(root: Path) -> None:
    """Eight people seen by two cameras, three backgrounds of which one shows someone, one real frame."""
    for folder in ("crops", "streets", "mot/S/img1", "mot/S/gt"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for person in range(1, 9):
        for camera in (1, 2):
            for shot in range(2):
                name = f"{person:04d}_c{camera}s1_{100 * shot:06d}_01.jpg"
                cv2.imwrite(str(root / "crops" / name), person_crop(person * 20, rng))
    (root / "crops/notes.jpg").write_bytes(b"not a crop, and not named as one")
    for number in range(3):
        texture = cv2.GaussianBlur(rng.integers(60, 190, (180, 240, 3), dtype=np.uint8), (0, 0), 3)
        cv2.imwrite(str(root / f"streets/{number}.jpg"), texture)
    labels = np.zeros((180, 240), dtype=np.uint8)
    labels[60:100, 30:50] = 9
    cv2.imwrite(str(root / "streets/0_labels.png"), labels)
    cv2.imwrite(str(root / "mot/S/img1/000001.jpg"), np.full((180, 240, 3), 77, np.uint8))
    (root / "mot/S/gt/gt.txt").write_text("1,3,100,40,30,80,1,1,1.0\n")
    (root / "mot/S/seqinfo.ini").write_text("[Sequence]\nimDir=img1\nimWidth=240\nimHeight=180\nimExt=.jpg\n")


def write_spec(material: Path, folder: Path, **changes: Any) -> Path:
    spec: dict[str, Any] = {
        "name": "tiny-composites",
        "terms": "free",
        "crops": "${MATERIAL}/crops",
        "backgrounds": ["${MATERIAL}/streets"],
        "cache": str(material / "cache"),
        "image_wh": [160, 120],
        "images": 50,
        "validation_images": 24,
        "people": [1, 3],
        "height_px": [30, 70],
        "validation_identities": 3,
        "unlabelled_identities": 1,
    }
    spec.update(changes)
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path
