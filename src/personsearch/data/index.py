"""One split of a data set as flat arrays: what every format's reader yields, and what is cached.

A reader turns label files into a `LabelIndex`; `IndexedDataset` makes a `SearchDataset` of it; `cached_index` keeps it
under the hash of the label files, so that megabytes of .mat or JSON are parsed once.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import imagesize
import numpy as np
from numpy.typing import NDArray

from personsearch.core.errors import InputError
from personsearch.core.files import atomic_file
from personsearch.data.cache import default_cache
from personsearch.data.images import read_image_bgr
from personsearch.data.sample import UNLABELLED, FloatArray, Frame, IntArray, Query, Sample, check_weights

DEFAULT_PROTOCOL = "default"
_FORMAT = "personsearch-index/1"
ProblemKind = Literal["missing", "wrong", "dropped", "noted"]


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be in a data set's files.

    Attributes:
        kind: ``missing`` files, ``wrong`` content, ``dropped`` rows that no reader could use, or what is only
            ``noted``: good to know and not amiss, such as oddities that the publisher left in.
        file: relative to the data set's root.
        what: what is the matter, with the offending value.
        remedy: what to do.
        count: how often.
    """

    kind: ProblemKind
    file: str
    what: str
    remedy: str
    count: int = 1


@dataclass(frozen=True, eq=False)
class QueryTable:
    """The queries of one search protocol as flat arrays.

    Attributes:
        image_indices: ``(Q,)`` int32.
        boxes_xyxy: ``(Q, 4)`` float32 source pixels.
        person_ids: ``(Q,)`` int32.
        gallery_numbers: ``(Q,)`` int32: which of the galleries, -1 for every image but the query's own.
        gallery_offsets: ``(G + 1,)`` int64 into ``gallery_images``, ``(...,)`` int32. Queries may share a gallery.
        answer_offsets: ``(Q + 1,)`` int64 into ``answers_xyxy``, ``(..., 4)`` float32; -1 everywhere where the
            protocol states no answers.
    """

    image_indices: NDArray[np.int32]
    boxes_xyxy: FloatArray
    person_ids: NDArray[np.int32]
    gallery_numbers: NDArray[np.int32]
    gallery_offsets: IntArray
    gallery_images: NDArray[np.int32]
    answer_offsets: IntArray
    answers_xyxy: FloatArray

    @staticmethod
    def of(queries: Sequence[Query]) -> QueryTable:
        """Packs queries; one gallery object that several of them hold is stored once."""
        galleries: list[IntArray] = []
        number_of: dict[int, int] = {}
        numbers = []
        for query in queries:
            if query.gallery is None:
                numbers.append(-1)
                continue
            if id(query.gallery) not in number_of:
                number_of[id(query.gallery)] = len(galleries)
                galleries.append(query.gallery)
            numbers.append(number_of[id(query.gallery)])
        stated = [query.answers_xyxy for query in queries if query.answers_xyxy is not None]
        if stated and len(stated) != len(queries):
            raise ValueError(f"{len(stated)} of {len(queries)} queries state their answers, expected all or none")
        answer_counts = [len(answers) for answers in stated]
        return QueryTable(
            np.array([query.image_index for query in queries], np.int32),
            np.array([query.box_xyxy for query in queries], np.float32).reshape(-1, 4),
            np.array([query.person_id for query in queries], np.int32),
            np.array(numbers, np.int32),
            np.concatenate([[0], np.cumsum([len(one) for one in galleries])]).astype(np.int64),
            np.concatenate([np.zeros(0, np.int32), *galleries]).astype(np.int32),
            np.concatenate([[0], np.cumsum(answer_counts)]).astype(np.int64)
            if stated
            else np.full(len(queries) + 1, -1, np.int64),
            np.concatenate([np.zeros((0, 4), np.float32), *stated]).astype(np.float32),
        )

    def queries(self) -> tuple[Query, ...]:
        """The queries; those that share a gallery share the array."""
        galleries = [
            self.gallery_images[first:last].astype(np.int64)
            for first, last in zip(self.gallery_offsets[:-1], self.gallery_offsets[1:], strict=True)
        ]
        found = []
        for row, number in enumerate(self.gallery_numbers.tolist()):
            first, last = self.answer_offsets[row : row + 2].tolist()
            found.append(
                Query(
                    int(self.image_indices[row]),
                    self.boxes_xyxy[row],
                    int(self.person_ids[row]),
                    None if number < 0 else galleries[number],
                    None if first < 0 else self.answers_xyxy[first:last],
                )
            )
        return tuple(found)


@dataclass(frozen=True, eq=False)
class LabelIndex:
    """One split of a data set.

    Attributes:
        name: of the data set; travels into checkpoints and manifests, as ``terms`` does.
        terms: under which the images may be used.
        image_paths: ``I`` paths relative to the data set's root, ``/`` between folders.
        image_wh: ``(I, 2)`` pixels; 0, 0 where the image is missing and no label file states its size.
        camera_ids: ``(I,)``; images of one camera share it.
        frame_indices: ``(I,)`` number of the frame in its recording.
        offsets: ``(I + 1,)``: the boxes of image i are rows ``offsets[i]:offsets[i + 1]``.
        boxes_xyxy: ``(N, 4)`` float32 source pixels, never degenerate.
        person_ids: ``(N,)``: 0..P-1 an identity, -1 a person without one, -2 a region to ignore.
        person_names: ``P`` identities as the publisher calls them, by person id.
        protocols: search protocols by name, in the order of importance; empty for a split without queries.
        problems: what the reader found amiss and left out; nothing is left out silently.
        weights: ``(N,)`` float32 in [0, 1], as `Sample.weights`; none where every box counts 1.
    """

    name: str
    terms: str
    image_paths: tuple[str, ...]
    image_wh: IntArray
    camera_ids: IntArray
    frame_indices: IntArray
    offsets: IntArray
    boxes_xyxy: FloatArray
    person_ids: IntArray
    person_names: tuple[str, ...]
    protocols: Mapping[str, QueryTable]
    problems: tuple[Problem, ...]
    weights: FloatArray | None = None

    def __post_init__(self) -> None:
        images, boxes = len(self.image_paths), len(self.person_ids)
        shapes = {
            "image_wh": (self.image_wh.shape, (images, 2)),
            "camera_ids": (self.camera_ids.shape, (images,)),
            "frame_indices": (self.frame_indices.shape, (images,)),
            "offsets": (self.offsets.shape, (images + 1,)),
            "boxes_xyxy": (self.boxes_xyxy.shape, (boxes, 4)),
        }
        for name, (actual, expected) in shapes.items():
            if actual != expected:
                raise ValueError(f"{name} has shape {actual}, expected {expected}")
        if self.offsets[0] != 0 or self.offsets[-1] != boxes or (np.diff(self.offsets) < 0).any():
            raise ValueError("offsets do not divide the boxes")
        if boxes and not -2 <= self.person_ids.min() <= self.person_ids.max() < len(self.person_names):
            raise ValueError(f"person_ids reach from {self.person_ids.min()} to {self.person_ids.max()}")
        if self.weights is not None:
            check_weights(self.weights, boxes)

    def counts(self) -> dict[str, int]:
        """Images, boxes of people, labelled and unlabelled ones, ignore regions, identities, cameras, and for each
        protocol its queries; what `personsearch data check` prints beside the published counts."""
        people = self.person_ids >= UNLABELLED
        return {
            "images": len(self.image_paths),
            "boxes": int(people.sum()),
            "labelled": int((self.person_ids >= 0).sum()),
            "unlabelled": int((self.person_ids == UNLABELLED).sum()),
            "ignore": int((self.person_ids < UNLABELLED).sum()),
            "identities": len(self.person_names),
            "cameras": len(np.unique(self.camera_ids)),
            **{f"queries.{name}": len(table.person_ids) for name, table in self.protocols.items()},
        }


class IndexedDataset:
    """A `SearchDataset` of a `LabelIndex`; frames are read when asked for.

    Args:
        root: that ``image_paths`` count from.
        index: the labels.
        protocol: name of a search protocol; none for the first one.

    Raises:
        InputError: the split has no protocol of that name.
    """

    def __init__(self, root: Path, index: LabelIndex, protocol: str | None = None) -> None:
        if protocol is not None and protocol not in index.protocols:
            raise InputError(
                f"search protocol `{protocol}` is unknown",
                where=f"{index.name} ({root})",
                expected=f"one of {', '.join(index.protocols)}" if index.protocols else "none: it has no queries",
            )
        self.root, self.index = root, index
        self.protocol = protocol or next(iter(index.protocols), DEFAULT_PROTOCOL)
        self._queries: tuple[Query, ...] | None = None

    @property
    def name(self) -> str:
        return self.index.name

    @property
    def terms(self) -> str:
        return self.index.terms

    @property
    def person_count(self) -> int:
        return len(self.index.person_names)

    @property
    def person_names(self) -> tuple[str, ...]:
        """Identities as the publisher calls them, by person id."""
        return self.index.person_names

    @property
    def queries(self) -> tuple[Query, ...]:
        """The protocol's searches, unpacked when first asked for."""
        if self._queries is None:
            table = self.index.protocols.get(self.protocol)
            self._queries = () if table is None else table.queries()
        return self._queries

    @property
    def dropped_boxes(self) -> int:
        """Boxes that the reader left out; ``index.problems`` says which."""
        return sum(problem.count for problem in self.index.problems if problem.kind == "dropped")

    def __len__(self) -> int:
        return len(self.index.image_paths)

    def __getitem__(self, index: int) -> Sample:
        labels, path = self.index, self.root / self.index.image_paths[index]
        width, height = labels.image_wh[index].tolist()
        if width <= 0:
            raise InputError(
                "image is missing and no label file states its size", where=str(path), expected="the published image"
            )
        rows = slice(int(labels.offsets[index]), int(labels.offsets[index + 1]))
        return Sample(
            path,
            labels.boxes_xyxy[rows],
            labels.person_ids[rows],
            int(labels.camera_ids[index]),
            int(labels.frame_indices[index]),
            (width, height),
            None if labels.weights is None else labels.weights[rows],
        )

    def frame_bgr(self, index: int) -> Frame:
        """Pixels of frame ``index``, ``(H, W, 3)`` uint8 BGR; `InputError` where its file cannot be read."""
        width, height = self.index.image_wh[index].tolist()
        return read_image_bgr(self.root / self.index.image_paths[index], (width, height) if width > 0 else None)

    def __getstate__(self) -> dict[str, Any]:
        # Loader workers need no queries, and galleries of thousands of images each are heavy to pickle.
        return {**self.__dict__, "_queries": None}


def image_sizes(root: Path, image_paths: Sequence[str]) -> IntArray:
    """``(I, 2)`` width and height from the images' headers; 0, 0 where there is no readable image."""
    sizes = np.zeros((len(image_paths), 2), np.int64)
    for row, relative in enumerate(image_paths):
        try:
            width, height = imagesize.get(str(root / relative))
        except (OSError, ValueError):
            continue
        if width > 0 and height > 0:
            sizes[row] = width, height
    return sizes


def missing_images(root: Path, image_paths: Sequence[str], image_wh: IntArray) -> tuple[Problem, ...]:
    """One problem a folder whose images are missing or unreadable by their header."""
    absent = Counter(
        str(Path(relative).parent) for relative, (width, _) in zip(image_paths, image_wh, strict=True) if width <= 0
    )
    totals = Counter(str(Path(relative).parent) for relative in image_paths)
    return tuple(
        Problem(
            "missing",
            folder,
            f"{count} of {totals[folder]} images cannot be read",
            "put the published images there" if count == totals[folder] else "unpack the set again",
            count,
        )
        for folder, count in sorted(absent.items())
    )


def cached_index(
    label_files: Sequence[Path], version: str, build: Callable[[], LabelIndex], image_folder: Path | None = None
) -> LabelIndex:
    """``build()``, or what it returned before for label files of the same bytes, if no file was missing then.

    Args:
        label_files: everything that the index depends on, images aside; must exist.
        version: of the reader, with its options; another version is another index.
        build: reads the label files.
        image_folder: that all images lie in, where it is one folder. The index then depends on the names and lengths
            of the files there as well, and is kept even if images are missing.

    Raises:
        InputError: a label file cannot be read, or what ``build`` raises.
    """
    digest = hashlib.sha256(f"{_FORMAT}\n{version}\n".encode())
    for path in label_files:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(
                "cannot be read", where=str(path), expected="a label file of the data set", remedy=error.strerror or ""
            ) from None
        digest.update(f"{path.name} {len(content)}\n".encode())
        digest.update(content)
    if image_folder is not None:
        digest.update(_listing(image_folder).encode())
    place = default_cache() / "indices" / f"{digest.hexdigest()[:40]}.npz"
    if place.is_file():
        try:
            return _read(place)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            place.unlink(missing_ok=True)  # cut short by a full disk, or of another NumPy: built again below
    index = build()
    # Images that are missing today may be there tomorrow, under the same labels.
    if image_folder is not None or not any(problem.kind == "missing" for problem in index.problems):
        _write(place, index)
    return index


def _listing(folder: Path) -> str:
    if not folder.is_dir():
        return "no folder"
    with os.scandir(folder) as entries:
        return "\n".join(sorted(f"{entry.name} {entry.stat().st_size}" for entry in entries if entry.is_file()))


class _StoredProtocols(Mapping[str, QueryTable]):
    """Protocols of a stored index, each read when first asked for."""

    def __init__(self, place: Path, names: Sequence[str]) -> None:
        self._place, self._names = place, tuple(names)
        self._read: dict[str, QueryTable] = {}

    def __getitem__(self, name: str) -> QueryTable:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._read:
            with np.load(self._place, allow_pickle=False) as stored:
                fields = {field: stored[f"protocol.{name}.{field}"] for field in QueryTable.__dataclass_fields__}
            self._read[name] = QueryTable(**fields)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


_ARRAYS = ("image_wh", "camera_ids", "frame_indices", "offsets", "boxes_xyxy", "person_ids")


def _write(place: Path, index: LabelIndex) -> None:
    texts = {
        "name": index.name,
        "terms": index.terms,
        "image_paths": index.image_paths,
        "person_names": index.person_names,
        "protocols": list(index.protocols),
        "problems": [asdict(problem) for problem in index.problems],
    }
    arrays = {name: getattr(index, name) for name in _ARRAYS}
    if index.weights is not None:
        arrays["weights"] = index.weights
    for name, table in index.protocols.items():
        arrays |= {f"protocol.{name}.{field}": getattr(table, field) for field in QueryTable.__dataclass_fields__}
    with atomic_file(place) as part:
        np.savez_compressed(part, texts=np.frombuffer(json.dumps(texts).encode(), np.uint8), **arrays)


def _read(place: Path) -> LabelIndex:
    with np.load(place, allow_pickle=False) as stored:
        texts = json.loads(stored["texts"].tobytes())
        arrays = {name: stored[name] for name in (*_ARRAYS, "weights") if name != "weights" or name in stored}
    return LabelIndex(
        name=texts["name"],
        terms=texts["terms"],
        image_paths=tuple(texts["image_paths"]),
        person_names=tuple(texts["person_names"]),
        protocols=_StoredProtocols(place, texts["protocols"]),
        problems=tuple(Problem(**problem) for problem in texts["problems"]),
        **arrays,
    )
