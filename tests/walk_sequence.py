"""A sequence of coloured bars in the MOT layout, some of whom leave and come back."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

# Track, person, frames, colour: person 0 leaves and comes back twice, person 1 once, person 2 never. Track numbers
# run against time on purpose.
VISITS = [
    (9, 0, (1, 3), (200, 30, 30)),
    (4, 0, (7,), (200, 30, 30)),
    (2, 0, (11,), (200, 30, 30)),
    (8, 1, (3, 5), (30, 200, 30)),
    (1, 1, (9,), (30, 200, 30)),
    (5, 2, (5,), (30, 30, 200)),
]


def write_walk(folder: Path) -> Path:
    """Seven frames, the last one of nobody; gives the folder back."""
    (folder / "img1").mkdir(parents=True)
    (folder / "gt").mkdir()
    (folder / "seqinfo.ini").write_text("[Sequence]\nimDir=img1\nimExt=.png\n")
    persons = [{"person": str(p), "L1": [t for t, person, _, _ in VISITS if person == p]} for p in range(3)]
    (folder / "person_map.json").write_text(json.dumps({"persons": persons}))
    lines = []
    for number in range(1, 14, 2):
        image = np.full((80, 120, 3), 128, np.uint8)
        for slot, (track, _, frames, colour) in enumerate(VISITS):
            if number in frames:
                x = 15 * slot
                image[10:60, x : x + 14] = colour
                lines.append(f"{number},{track},{x},10,14,50,1,-1,-1,-1")
        cv2.imwrite(str(folder / "img1" / f"{number:06d}.png"), image)
    (folder / "gt" / "gt.txt").write_text("\n".join(lines) + "\n")
    return folder
