"""Any data set as COCO, as the project's own folder, or as MOT sequences; see `convert`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from personsearch.core.errors import InputError
from personsearch.core.files import atomic_dir, write_json
from personsearch.data.coco_writer import write_coco
from personsearch.data.folder import DESCRIPTION, FORMAT
from personsearch.data.index import DEFAULT_PROTOCOL, IndexedDataset, LabelIndex, QueryTable
from personsearch.data.mot_writer import write_mot
from personsearch.data.opening import format_of
from personsearch.data.sample import FloatArray, Frame, Sample, SearchDataset
from personsearch.data.video_frames import ImageEncoding, extract_frames

Target = Literal["coco", "folder", "mot"]
Images = Literal["link", "copy", "none"]


@dataclass(frozen=True)
class Split:
    """One split on its way: labels, and where its images come from.

    Attributes:
        index: the labels.
        root: that the image paths count from; none for rendered frames.
        dataset: renders them.
    """

    index: LabelIndex
    root: Path | None
    dataset: SearchDataset


def convert(
    source: Path,
    out: Path,
    *,
    splits: Sequence[str] = (),
    to: Target = "coco",
    images: Images = "link",
    encoding: ImageEncoding | None = None,
    on_image: Callable[[int], None] = lambda total: None,
) -> dict[str, LabelIndex]:
    """Writes splits of a data set in another format, all of them or nothing.

    COCO and the project's own folder keep everything: boxes, identities with their names, -1 and -2, weights, cameras,
    frame numbers, sizes, terms and search protocols. MOT has no place for protocols, terms and weights.

    Args:
        source: a data set in any format that `open_dataset` knows.
        out: folder to write; new, or empty.
        splits: names; all for none.
        to: `coco` is ``annotations/<split>.json``, `folder` has ``dataset.json`` as well, `mot` a sequence a camera.
        images: `link` makes hard links, or symbolic ones to another file system; `none` writes labels alone.
        encoding: of frames that the data set renders; JPEG of quality 95 for none.
        on_image: called after each image with the number of all.

    Returns:
        What was written, by split.

    Raises:
        InputError: ``source`` is not a data set, has no such split, lacks images, or ``out`` is not empty.
    """
    check_target(out)
    opened = {name: _open(source, name, encoding or ImageEncoding()) for name in splits or _all_splits(source)}
    if to == "mot" and len(opened) > 1:
        raise InputError(
            f"{len(opened)} splits", where=str(source), expected="one, as MOT sequences have none", remedy="name it"
        )
    total = sum(len(split.index.image_paths) for split in opened.values()) if images != "none" else 0
    if to == "mot":
        opened = {name: replace(split, index=_for_mot(split.index)) for name, split in opened.items()}
    _check_images(opened, images)
    with atomic_dir(out) as part:
        places = _write_labels(part, {name: split.index for name, split in opened.items()}, to)
        for name, split in opened.items() if images != "none" else ():
            for number, path in enumerate(split.index.image_paths):
                _place_image(split, number, part / places[name].get(path, path), images, encoding or ImageEncoding())
                on_image(total)
    return {name: split.index for name, split in opened.items()}


def convert_video(
    source: Path,
    frames: Iterable[Frame],
    out: Path,
    *,
    video: str,
    first_frame: int,
    split: str | None = None,
    to: Target = "coco",
    encoding: ImageEncoding | None = None,
    on_frame: Callable[[], None] = lambda: None,
) -> dict[str, LabelIndex]:
    """Labels of a video and its labelled frames as a data set.

    Args:
        source: labels in any format, whose images need not be there.
        frames: every frame of the video in the order of decoding.
        out, to: as of `convert`.
        video: name for messages.
        first_frame: number that the labels give to the first frame.
        split: of ``source``; none for its only one.
        encoding: of the images; JPEG of quality 95 for none.
        on_frame: called for every frame decoded.

    Returns:
        What was written, by split.

    Raises:
        InputError: as of `convert` and `extract_frames`.
    """
    check_target(out)
    known = _all_splits(source)
    if split is None and len(known) > 1:
        raise InputError(
            f"has splits {', '.join(known)}", where=str(source), expected="one for a video", remedy="name it: `--split`"
        )
    name = split or known[0]
    labels = _open(source, name, encoding or ImageEncoding())
    if labels.root is None:
        raise InputError("renders its frames", where=str(source), expected="labels of a video")
    with atomic_dir(out) as part:
        index = extract_frames(
            labels.index,
            frames,
            part,
            video=video,
            first_frame=first_frame,
            encoding=encoding or ImageEncoding(),
            on_frame=on_frame,
        )
        index = _for_mot(index) if to == "mot" else index
        places = _write_labels(part, {name: index}, to)
        for path, place in places[name].items():
            (part / place).parent.mkdir(parents=True, exist_ok=True)
            os.replace(part / path, part / place)
        if places[name]:
            _remove_empty(part)
    return {name: index}


def check_target(out: Path) -> None:
    """Refuses a target that would be overwritten.

    Raises:
        InputError: there is something.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError("exists", where=str(out), expected="a new folder", remedy="name another one, or remove it")


def _all_splits(source: Path) -> tuple[str, ...]:
    splits = format_of(source).splits(source)
    if not splits:
        raise InputError("has no split", where=str(source), expected="label files")
    return splits


def _open(source: Path, split: str, encoding: ImageEncoding) -> Split:
    dataset = format_of(source).open(source, split, None)
    if isinstance(dataset, IndexedDataset):
        return Split(dataset.index, dataset.root, dataset)
    return Split(rendered_index(dataset, encoding), None, dataset)


def rendered_index(dataset: SearchDataset, encoding: ImageEncoding) -> LabelIndex:
    """The labels of a data set without image files, sample by sample; its frames are called ``frames/000000.jpg``."""
    samples = [dataset[number] for number in range(len(dataset))]
    return LabelIndex(
        name=dataset.name,
        terms=dataset.terms,
        image_paths=tuple(f"frames/{number:06d}{encoding.suffix}" for number in range(len(samples))),
        image_wh=np.array([sample.image_wh for sample in samples], np.int64).reshape(-1, 2),
        camera_ids=np.array([sample.camera_id for sample in samples], np.int64),
        frame_indices=np.array([sample.frame_index for sample in samples], np.int64),
        offsets=np.cumsum([0, *(len(sample.person_ids) for sample in samples)]).astype(np.int64),
        boxes_xyxy=np.concatenate([np.zeros((0, 4), np.float32), *(sample.boxes_xyxy for sample in samples)]),
        person_ids=np.concatenate([np.zeros(0, np.int64), *(sample.person_ids for sample in samples)]),
        person_names=tuple(str(number) for number in range(dataset.person_count)),
        protocols={DEFAULT_PROTOCOL: QueryTable.of(dataset.queries)} if dataset.queries else {},
        problems=(),
        weights=_joined_weights(samples),
    )


def _joined_weights(samples: Sequence[Sample]) -> FloatArray | None:
    if all(sample.weights is None for sample in samples):
        return None
    parts = [np.ones(len(one.person_ids), np.float32) if one.weights is None else one.weights for one in samples]
    return np.concatenate(parts)


def _for_mot(index: LabelIndex) -> LabelIndex:
    return replace(index, protocols={}, terms="unknown", weights=None)


def _check_images(opened: dict[str, Split], images: Images) -> None:
    for name, split in opened.items():
        if images == "none":
            if split.root is None:
                raise InputError(
                    "renders its frames",
                    where=split.index.name,
                    expected="images to be written",
                    remedy="`--images copy`",
                )
            continue
        absent = [path for path in split.index.image_paths if split.root and not (split.root / path).is_file()]
        if absent:
            raise InputError(
                f"{len(absent)} of {len(split.index.image_paths)} images of split `{name}` are missing, "
                f"such as {absent[0]}",
                where=str(split.root),
                expected="the published images",
                remedy="or convert the labels alone: `--images none`",
            )


def _write_labels(folder: Path, indices: dict[str, LabelIndex], to: Target) -> dict[str, dict[str, str]]:
    """Writes label files; for each split, paths of images that do not stay what they are."""
    if to == "mot":
        return {name: write_mot(folder, index) for name, index in indices.items()}
    files = {name: f"annotations/{name}.json" for name in indices}
    for name, index in indices.items():
        write_coco(folder / files[name], index)
    if to == "folder":
        first = next(iter(indices.values()))
        description = {"format": FORMAT, "name": first.name, "terms": first.terms, "splits": files, "generator": None}
        write_json(folder / DESCRIPTION, description)
    return {name: {} for name in indices}


def _place_image(split: Split, number: int, target: Path, images: Images, encoding: ImageEncoding) -> None:
    """Puts one image of a split where it belongs; a target that is there already is left, as splits may share images.

    Raises:
        InputError: the image cannot be read, or the disk takes no more.
    """
    if split.root is None:
        encoding.write(target, split.dataset.frame_bgr(number))
        return
    if target.exists():
        return
    place_file(split.root / split.index.image_paths[number], target, "copy" if images == "copy" else "link")


def place_file(file: Path, target: Path, images: Literal["link", "copy"]) -> None:
    """Puts an image file at ``target``, as a copy, or as a link: a hard one, or a symbolic one to another file system.

    Raises:
        InputError: the disk takes no more.
    """
    origin = file.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if images == "copy":
            shutil.copyfile(origin, target)
            return
        try:
            os.link(origin, target)
        except OSError:  # another file system, or one without hard links
            os.symlink(origin, target)
    except OSError as error:
        raise InputError(
            "image cannot be placed", where=str(target), remedy=f"{error.strerror}; try `--images copy`"
        ) from None


def _remove_empty(folder: Path) -> None:
    for path in sorted((one for one in folder.rglob("*") if one.is_dir()), reverse=True):
        if not any(path.iterdir()):
            path.rmdir()
