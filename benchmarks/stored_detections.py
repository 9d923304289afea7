"""Detections in a file: a system's outcome kept for later, or that of another project, to be scored here.

A file is a NumPy archive (.npz) with these arrays, rows of an image next to each other, images in any order:

=====================  =========================================================================================
``format``             the text ``personsearch-detections/1``
``system``             what made them, a text
``score_threshold``    detections below it were left out by whatever made them
``image_names``        ``(I,)`` texts: paths relative to the data set's root with ``/``
``counts``             ``(I,)`` number of detections of each image, 0 included
``boxes_xyxy``         ``(N, 4)`` source pixels
``scores``             ``(N,)`` in [0, 1]
``embeddings``         ``(N, D)``, L2-normalised
``query_embeddings``   ``(Q, D)`` of the queries' true boxes in the protocol's order; may be missing
=====================  =========================================================================================
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from personsearch.benchmarks.collecting import Collected
from personsearch.core.detections import Detections
from personsearch.core.errors import InputError
from personsearch.core.files import atomic_file, sha256_file
from personsearch.data import Sample, SearchDataset

FORMAT = "personsearch-detections/1"
_NUMBERS, _COUNTS, _TEXTS = "fiu", "iu", "U"
_EXPECTED = {_NUMBERS: "numbers", _COUNTS: "whole numbers", _TEXTS: "texts"}
_KINDS = {
    "score_threshold": _NUMBERS,
    "image_names": _TEXTS,
    "counts": _COUNTS,
    "boxes_xyxy": _NUMBERS,
    "scores": _NUMBERS,
    "embeddings": _NUMBERS,
    "query_embeddings": _NUMBERS,
}
_REQUIRED = ("format", "system", "score_threshold", "image_names", "counts", "boxes_xyxy", "scores", "embeddings")


def image_names(samples: Sequence[Sample], root: Path) -> list[str]:
    """What a file calls the images: the path below ``root``, or the number of a frame that is rendered."""
    names = []
    for index, sample in enumerate(samples):
        path = sample.image_path
        if path is None:
            names.append(f"frame {index}")
        else:
            names.append(path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix())
    return names


def write_detections(path: Path, collected: Collected, root: Path) -> None:
    """Writes what a system found in a split of the data set at ``root``.

    Raises:
        ValueError: nothing was detected with it: it only embeds.
    """
    if collected.found is None:
        raise ValueError(f"{collected.system} has no detections to store")
    names = image_names(collected.samples, root)
    width = next((one.embeddings.shape[1] for one in collected.found if len(one)), 0)
    arrays = {
        "format": np.array(FORMAT),
        "system": np.array(collected.system),
        "score_threshold": np.array(collected.score_threshold),
        "image_names": np.array(list(names), np.str_),
        "counts": np.array([len(one) for one in collected.found], np.int64),
        "boxes_xyxy": np.concatenate([np.zeros((0, 4), np.float32), *(one.boxes_xyxy for one in collected.found)]),
        "scores": np.concatenate([np.zeros(0, np.float32), *(one.scores for one in collected.found)]),
        "embeddings": np.concatenate(
            [np.zeros((0, width), np.float32), *(one.embeddings for one in collected.found if len(one))]
        ),
    }
    if collected.query_embeddings is not None:
        arrays["query_embeddings"] = collected.query_embeddings
    with atomic_file(path) as part, part.open("wb") as file:  # a file, lest NumPy append its suffix to the name
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read_detections(path: Path, dataset: SearchDataset, root: Path) -> Collected:
    """Reads a file for a split of the data set at ``root``; images themselves are not read.

    Raises:
        InputError: not such a file, a field has the wrong shape or a value that is not finite, the data set does not
            have an image that the file names, or the file lacks one of the data set's.
    """
    samples = [dataset[index] for index in range(len(dataset))]
    names, queries = image_names(samples, root), len(dataset.queries)
    fields = _read(path)
    listed, counts = fields["image_names"].tolist(), fields["counts"]
    _expect(path, "counts", counts.shape, (len(listed),))
    if (counts < 0).any():
        raise InputError(f"`counts` holds {counts.min()}", where=str(path), expected="0 and more")
    total, width = int(counts.sum()), fields["embeddings"].shape[-1] if fields["embeddings"].ndim else 0
    boxes, scores, embeddings = (fields[name] for name in ("boxes_xyxy", "scores", "embeddings"))
    _expect(path, "boxes_xyxy", boxes.shape, (total, 4))
    _expect(path, "scores", scores.shape, (total,))
    _expect(path, "embeddings", embeddings.shape, (total, width))
    _check_names(path, listed, names)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    for field, values in (("boxes_xyxy", boxes), ("scores", scores), ("embeddings", embeddings)):
        finite = np.isfinite(values.reshape(total, -1)).all(axis=1) if total else np.ones(0, bool)
        if not finite.all():
            image = listed[int(np.searchsorted(offsets, np.argmin(finite), side="right")) - 1]
            raise InputError(f"{field} of `{image}` holds a value that is not finite", where=str(path))
    rows = {name: slice(int(offsets[i]), int(offsets[i + 1])) for i, name in enumerate(listed)}
    asked = fields.get("query_embeddings")
    if asked is not None:
        _expect(path, "query_embeddings", asked.shape, (queries, width))
        if not np.isfinite(asked).all():
            raise InputError("query_embeddings holds a value that is not finite", where=str(path))
    return Collected(
        system=str(fields["system"]),
        sha256=sha256_file(path),
        score_threshold=float(fields["score_threshold"]),
        samples=samples,
        found=[Detections(boxes[rows[n]], scores[rows[n]], embeddings[rows[n]]) for n in names],
        true_boxes=None,
        query_embeddings=None if asked is None else asked.astype(np.float32),
    )


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            fields = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, AttributeError, zipfile.BadZipFile):
        raise InputError("cannot be read", where=str(path), expected="an .npz file of detections") from None
    missing = [name for name in _REQUIRED if name not in fields]
    if missing:
        raise InputError(f"`{missing[0]}` is missing", where=str(path), expected=f"the arrays {', '.join(_REQUIRED)}")
    if str(fields["format"]) != FORMAT:
        raise InputError(f"`format` is `{fields['format']}`", where=str(path), expected=f"`{FORMAT}`")
    for name, kinds in _KINDS.items():
        if name in fields and fields[name].dtype.kind not in kinds:
            raise InputError(f"`{name}` is of type {fields[name].dtype}", where=str(path), expected=_EXPECTED[kinds])
    return fields


def _expect(path: Path, field: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if shape != expected:
        raise InputError(f"`{field}` has shape {shape}", where=str(path), expected=str(expected))


def _check_names(path: Path, listed: Sequence[str], names: Sequence[str]) -> None:
    if len(set(listed)) != len(listed):
        twice = next(name for name in listed if listed.count(name) > 1)
        raise InputError(f"image `{twice}` stands there twice", where=str(path), expected="each image once")
    known = set(names)
    unknown = [name for name in listed if name not in known]
    if unknown:
        raise InputError(
            f"names image `{unknown[0]}`, which the data set does not have ({len(unknown)} such)",
            where=str(path),
            expected=f"paths such as `{names[0]}`" if names else "no image: the split is empty",
        )
    absent = [name for name in names if name not in set(listed)] if len(listed) < len(names) else []
    if absent:
        raise InputError(
            f"has no entry for image `{absent[0]}` ({len(absent)} such)",
            where=str(path),
            expected="every image of the split, with a count of 0 where nothing was found",
        )
