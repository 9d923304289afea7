"""CUHK-SYSU in its true layout, small enough to be written by each test that needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mat_files import NO_BOX, cells, records, write_mat

Box = tuple[int, int, int, int]
Row = tuple[str, Box | None]
SIZES = (50, 100, 500, 1000, 2000, 4000)
WH = (640, 480)

BOXES: dict[str, list[Box]] = {
    "s1.jpg": [(10, 20, 30, 60), (50, 20, 0, 60), (100, 20, 30, 70)],
    "s2.jpg": [(5, 5, 30, 60), (5, 5, 30, 60), (620, 5, 30, 60)],
    "s11.jpg": [(7, 7, 30, -1), (0, 0, 20, 50)],
    "s4.jpg": [(200, 100, 90, 200), (60, 5, 30, 60)],
    "s5.jpg": [(210, 100, 90, 200)],
    "s6.jpg": [(220, 100, 90, 200), (400, 100, 80, 190), (300, 90, 80, 190)],
    "s7.jpg": [(1, 1, 20, 40)],
    "s8.jpg": [(1, 1, 20, 40)],
}
POOL = ("s6.jpg", "s4.jpg", "s5.jpg", "s8.jpg", "s7.jpg")
TRAIN: dict[str, list[tuple[str, Box]]] = {
    "p20": [("s1.jpg", (10, 20, 30, 60)), ("s2.jpg", (5, 5, 30, 60))],
    "p3": [("s2.jpg", (620, 5, 30, 60)), ("s11.jpg", (0, 0, 20, 50))],
}
QUERIES: list[tuple[str, str, Box]] = [
    ("p8", "s4.jpg", (200, 100, 90, 200)),
    ("p1", "s6.jpg", (400, 100, 80, 190)),
]
# The first query's gallery repeats an image, the second's has the query's own, where the person stands twice.
GALLERIES: list[list[Row]] = [
    [("s5.jpg", (210, 100, 90, 200)), ("s5.jpg", (210, 100, 90, 200)), ("s7.jpg", None)],
    [("s6.jpg", (300, 90, 80, 190)), ("s8.jpg", None)],
]


def stored(box: Box | None, kind: type) -> Any:
    return NO_BOX if box is None else np.array([box], kind)


def searches_of(queries: Sequence[tuple[str, str, Box]], galleries: Sequence[Sequence[Row]], kind: type) -> Any:
    return records(
        [
            {
                "Query": records(
                    [{"imname": image, "idlocate": stored(box, kind), "ishard": 0, "idname": name}],
                    ("imname", "idlocate", "ishard", "idname"),
                ),
                "Gallery": records(
                    [{"imname": image, "idlocate": stored(at, kind), "ishard": NO_BOX} for image, at in rows],
                    ("imname", "idlocate", "ishard"),
                ),
            }
            for (name, image, box), rows in zip(queries, galleries, strict=True)
        ],
        ("Query", "Gallery"),
    )


def write_images(path: Path, boxes: Mapping[str, Sequence[Any]], kind: type = np.float64) -> None:
    rows = [
        {
            "imname": name,
            "nAppear": len(placed),
            "box": records([{"idlocate": np.array([b], kind), "ishard": 0} for b in placed], ("idlocate", "ishard")),
        }
        for name, placed in boxes.items()
    ]
    write_mat(path, Img=records(rows, ("imname", "nAppear", "box")))


def write_train(path: Path, people: Mapping[str, Sequence[tuple[str, Box]]]) -> None:
    rows = []
    for name, seen in people.items():
        scenes = [{"imname": image, "idlocate": np.array([box], np.float64), "ishard": 0} for image, box in seen]
        scene = records(scenes, ("imname", "idlocate", "ishard"))
        rows.append(records([{"idname": name, "nAppear": len(seen), "scene": scene}], ("idname", "nAppear", "scene")))
    write_mat(path, Train=cells(rows))


def write_searches(
    path: Path,
    queries: Sequence[tuple[str, str, Box]] = QUERIES,
    galleries: Sequence[Sequence[Row]] = GALLERIES,
    kind: type = np.float64,
    compressed: bool = True,
) -> None:
    write_mat(path, compressed, **{path.stem: searches_of(queries, galleries, kind)})


def write_set(root: Path, folder: str | None = "Image/SSM", kind: type = np.float64) -> Path:
    """The set; larger galleries have the smaller ones' rows and all other images."""
    annotation, searches = root / "annotation", root / "annotation/test/train_test"
    write_images(annotation / "Images.mat", BOXES)
    write_mat(annotation / "pool.mat", pool=cells(POOL))
    write_train(searches / "Train.mat", TRAIN)
    for size in SIZES:
        more: list[Row] = [("s8.jpg", None)] if size > 50 else []
        galleries = [[*rows, *more] for rows in GALLERIES]
        write_searches(searches / f"TestG{size}.mat", galleries=galleries, kind=kind, compressed=size != 500)
    if folder:
        (root / folder).mkdir(parents=True)
        for name in BOXES:
            cv2.imwrite(str(root / folder / name), np.zeros((WH[1], WH[0], 3), np.uint8))
    return root
