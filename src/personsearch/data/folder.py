"""The project's own data set folder, as docs/conventions.md describes it."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from personsearch.core.errors import InputError
from personsearch.core.geometry import clip_boxes, xywh_to_xyxy
from personsearch.data.images import read_image_bgr, read_json_object
from personsearch.data.sample import IGNORE, Frame, Query, Sample

FORMAT = "personsearch/1"
DESCRIPTION = "dataset.json"


class FolderDataset:
    """One split of a data set folder; labels are read at once, frames when asked for.

    Args:
        root: the folder that holds ``dataset.json``.
        split: a name that ``dataset.json`` lists.

    Attributes:
        dropped_boxes: boxes of the split left out because they have no area inside their image.

    Raises:
        InputError: the folder is not a data set, the split is unknown, or an annotation is wrong.
    """

    def __init__(self, root: Path, split: str) -> None:
        description = _describe(root)
        splits = description["splits"]
        if split not in splits:
            raise InputError(
                f"split `{split}` is unknown", where=str(root), expected=f"one of {', '.join(sorted(splits))}"
            )
        self._root, self._path = root, root / splits[split]
        self.name: str = description["name"]
        self.terms: str = description["terms"]
        self.dropped_boxes = 0
        content = read_json_object(self._path)
        self.person_count: int = self._field(content, "person_count", int, "top level")
        rows = [self._image(row) for row in self._field(content, "images", list, "top level")]
        self._index_of = {image_id: index for index, (image_id, *_) in enumerate(rows)}
        if len(self._index_of) != len(rows):
            raise InputError("two images share an id", where=str(self._path), expected="ids that differ")
        boxes: list[list[Any]] = [[] for _ in rows]
        for row in self._field(content, "annotations", list, "top level"):
            index, box, person_id = self._annotation(row, rows)
            if box is None:
                self.dropped_boxes += 1
            else:
                boxes[index].append((box, person_id))
        self._samples = [
            Sample(
                root / file_name,
                np.array([box for box, _ in labels], dtype=np.float32).reshape(-1, 4),
                np.array([person_id for _, person_id in labels], dtype=np.int64),
                camera_id,
                frame_index,
                image_wh,
            )
            for (_, file_name, image_wh, camera_id, frame_index), labels in zip(rows, boxes, strict=True)
        ]
        self.queries = tuple(self._query(row) for row in content.get("queries", []))

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        return self._samples[index]

    def frame_bgr(self, index: int) -> Frame:
        """Pixels of frame ``index``, ``(H, W, 3)`` uint8 BGR; `InputError` where its file cannot be read."""
        sample = self._samples[index]
        assert sample.image_path is not None
        return read_image_bgr(sample.image_path, sample.image_wh)

    def _field(self, row: Any, name: str, kind: type | tuple[type, ...], what: str) -> Any:
        value = row.get(name) if isinstance(row, dict) else None
        if not isinstance(value, kind) or isinstance(value, bool):
            names = kind.__name__ if isinstance(kind, type) else " or ".join(k.__name__ for k in kind)
            raise InputError(
                f"{what}: `{name}` is {value!r}",
                where=str(self._path),
                expected=names,
                remedy="see docs/conventions.md",
            )
        return value

    def _image(self, row: Any) -> tuple[int, str, tuple[int, int], int, int]:
        image_id = self._field(row, "id", int, "an image")
        what = f"image {image_id}"
        file_name = self._field(row, "file_name", str, what)
        pure = PurePosixPath(file_name)
        if pure.is_absolute() or ".." in pure.parts:
            raise InputError(
                f"{what}: file_name `{file_name}`",
                where=str(self._path),
                expected="a path inside the data set folder",
            )
        width, height = (self._field(row, key, int, what) for key in ("width", "height"))
        if min(width, height) <= 0:
            raise InputError(f"{what} is {width}x{height}", where=str(self._path), expected="positive pixels")
        camera_id, frame_index = (self._field(row, key, int, what) for key in ("camera_id", "frame_index"))
        return image_id, file_name, (width, height), camera_id, frame_index

    def _annotation(self, row: Any, rows: list[Any]) -> tuple[int, Any, int]:
        what = f"annotation {self._field(row, 'id', int, 'an annotation')}"
        index = self._image_index(self._field(row, "image_id", int, what), what)
        person_id = self._field(row, "person_id", int, what)
        if row.get("iscrowd"):
            person_id = IGNORE
        if not IGNORE <= person_id < self.person_count:
            raise InputError(
                f"{what}: person_id is {person_id}",
                where=str(self._path),
                expected=f"{IGNORE} to {self.person_count - 1}, as person_count is {self.person_count}",
            )
        return index, self._box(row, what, rows[index][2]), person_id

    def _box(self, row: Any, what: str, image_wh: tuple[int, int]) -> Any:
        """xyxy cut at the image's edges, or none where nothing is left."""
        bbox = self._field(row, "bbox", list, what)
        if len(bbox) != 4 or not all(isinstance(side, int | float) and np.isfinite(side) for side in bbox):
            raise InputError(f"{what}: bbox is {bbox!r}", where=str(self._path), expected="[x, y, w, h], four numbers")
        if bbox[2] <= 0 or bbox[3] <= 0:
            return None
        box = clip_boxes(xywh_to_xyxy(np.array([bbox], dtype=np.float64)), image_wh)[0].astype(np.float32)
        return box if (box[2:] > box[:2]).all() else None

    def _image_index(self, image_id: Any, what: str) -> int:
        if image_id not in self._index_of:
            raise InputError(
                f"{what}: image id {image_id!r} is unknown",
                where=str(self._path),
                expected="the id of one of `images`",
            )
        return self._index_of[image_id]

    def _query(self, row: Any) -> Query:
        index = self._image_index(self._field(row, "image_id", int, "a query"), "a query")
        what = f"query in image {row['image_id']}"
        box = self._box(row, what, self._samples[index].image_wh)
        person_id = self._field(row, "person_id", int, what)
        if box is None or not 0 <= person_id < self.person_count:
            raise InputError(
                f"{what}: bbox {row['bbox']}, person_id {person_id}",
                where=str(self._path),
                expected=f"a box with area inside the image and a person of 0 to {self.person_count - 1}",
            )
        gallery = row.get("gallery")
        if gallery is not None:
            listed = self._field(row, "gallery", list, what)
            gallery = np.array([self._image_index(i, what) for i in listed], np.int64)
        return Query(index, box, person_id, gallery)


def _describe(root: Path) -> dict[str, Any]:
    path = root / DESCRIPTION
    remedy = "make one with `personsearch data synthesize`, or see docs/conventions.md for the format"
    content = read_json_object(path)
    if content.get("format") != FORMAT:
        raise InputError(
            f"`format` is {content.get('format')!r}", where=str(path), expected=f"`{FORMAT}`", remedy=remedy
        )
    splits = content.get("splits")
    if not isinstance(splits, dict) or not all(isinstance(name, str) for name in splits.values()):
        raise InputError(f"`splits` is {splits!r}", where=str(path), expected="split names with annotation files")
    for key in ("name", "terms"):
        if not isinstance(content.get(key), str):
            raise InputError(f"`{key}` is {content.get(key)!r}", where=str(path), expected="text")
    return content
