"""What labels alone tell about a data set: boxes, identities, queries, and files that are not there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from personsearch.core.geometry import box_iou
from personsearch.data.index import Problem, QueryTable
from personsearch.data.sample import UNLABELLED, IntArray
from personsearch.data.survey import Survey

MIN_SIDE_PX = 3.0
MAX_TALL, MAX_WIDE = 10.0, 4.0
"""A person's box is hardly ever taller than 10 times its width, or wider than 4 times its height."""
MATCHING_IOU = 0.5
_EXAMPLES = 3


def label_problems(split: str, survey: Survey) -> Iterator[Problem]:
    """Everything amiss or worth knowing in the labels of one split, beside what its reader has said."""
    yield from _images(survey)
    yield from _boxes(survey)
    yield from _identities(survey)
    if survey.whole:
        yield from _queries(survey)
    if split != "train" and not any(len(table.person_ids) for table in survey.index.protocols.values()):
        yield Problem("noted", "", "has no queries", "search cannot be evaluated on it, detection can")


def shared_problems(surveys: Mapping[str, Survey], shared_identities: int | None) -> Iterator[tuple[str, Problem]]:
    """What two splits have in common and should not; each with the second split's name.

    Args:
        surveys: by split.
        shared_identities: how many identities the publisher has in several splits; none where splits number their
            people by themselves.
    """
    for (first_name, first), (second_name, second) in combinations(surveys.items(), 2):
        paths = sorted({*first.index.image_paths} & {*second.index.image_paths} - {""})
        if paths:
            what = f"{many(len(paths), 'image')} also in split `{first_name}`: {some(paths)}"
            yield second_name, Problem("wrong", "", what, "remove them from one split", len(paths))
        if shared_identities is None:
            continue
        shared = sorted(_present(first) & _present(second))
        if not shared:
            continue
        what = f"{many(len(shared), 'identity')} also in split `{first_name}`: {some(shared)}"
        if len(shared) <= shared_identities:
            yield second_name, Problem("noted", "", what, f"the publisher has {shared_identities}", len(shared))
        else:
            yield second_name, Problem("wrong", "", what, "move each person to one split", len(shared))


def some(names: Sequence[object], limit: int = _EXAMPLES) -> str:
    """The first few of several names, and how many more there are."""
    text = ", ".join(str(name) for name in names[:limit])
    return f"{text} and {len(names) - limit:,} more" if len(names) > limit else text


def many(count: int, noun: str) -> str:
    """``1 box``, ``2,000 boxes``."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}es" if noun.endswith("x") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def _images(survey: Survey) -> Iterator[Problem]:
    index = survey.index
    twice = [path for path, count in Counter(index.image_paths).items() if path and count > 1]
    if twice and survey.whole:
        yield Problem("wrong", twice[0], f"listed more than once: {some(twice)}", "list it once", len(twice))
    if any(problem.kind == "missing" for problem in index.problems):
        return  # the reader has looked
    absent = [path for path in index.image_paths if path and not (survey.root / path).is_file()]
    if absent:
        what = f"{many(len(absent), 'image')} of {len(index.image_paths):,} not there: {some(absent)}"
        yield Problem("missing", absent[0].rsplit("/", 1)[0], what, "put them there", len(absent))


def _image_of_box(survey: Survey) -> IntArray:
    return np.repeat(np.arange(len(survey.index.image_paths)), np.diff(survey.index.offsets))


def _name(survey: Survey, image: int) -> str:
    return survey.index.image_paths[image] or f"frame {survey.rows[image]}"


def _boxes(survey: Survey) -> Iterator[Problem]:
    index, image_of = survey.index, _image_of_box(survey)
    if not (index.person_ids >= UNLABELLED).any():
        yield Problem("noted", "", "no image shows a person", "label some, unless it is meant to be so")
        return
    size = index.image_wh[image_of]
    # Labels of whole pixels may end half a pixel outside.
    outside = (index.boxes_xyxy[:, :2] < -0.5).any(axis=1)
    outside |= ((index.boxes_xyxy[:, 2:] > size + 0.5) & (size > 0)).any(axis=1)
    if outside.any():
        images = np.unique(image_of[outside])
        what = f"{many(int(outside.sum()), 'box')} outside the frame: {some([_name(survey, i) for i in images])}"
        yield Problem("wrong", _name(survey, images[0]), what, "cut them at the frame", int(outside.sum()))
    sides = index.boxes_xyxy[:, 2:] - index.boxes_xyxy[:, :2]
    odd = (sides.min(axis=1) < MIN_SIDE_PX) | (sides[:, 1] > MAX_TALL * sides[:, 0])
    odd |= sides[:, 0] > MAX_WIDE * sides[:, 1]
    odd &= index.person_ids >= UNLABELLED
    if odd.any():
        row = int(np.argmax(odd))
        example = f"{sides[row, 0]:.0f}x{sides[row, 1]:.0f} in {_name(survey, int(image_of[row]))}"
        what = f"{many(int(odd.sum()), 'box')} hardly of a person's shape, such as {example}"
        remedy = f"look: a side below {MIN_SIDE_PX:.0f} px, or {MAX_TALL:.0f} times as tall as wide"
        yield Problem("noted", "", what, remedy, int(odd.sum()))


def _identities(survey: Survey) -> Iterator[Problem]:
    index = survey.index
    labelled = np.flatnonzero(index.person_ids >= 0)
    if not len(labelled):
        if (index.person_ids == UNLABELLED).any():
            yield Problem("noted", "", "no box has an identity", "detection can be learnt from it, search cannot")
        return
    people, images = index.person_ids[labelled], _image_of_box(survey)[labelled]
    pairs, counts = np.unique(np.stack([people, images]), axis=1, return_counts=True)
    if (counts > 1).any():
        person, image = pairs[:, np.argmax(counts > 1)].tolist()
        count = len(np.unique(pairs[1, counts > 1]))
        what = f"{many(count, 'image')} with one identity twice, such as "
        what += f"{index.person_names[person]} in {_name(survey, image)}"
        yield Problem("noted", "", what, "correct them, unless a mirror or a collage shows it so", count)
    if not survey.whole:
        return
    absent = np.setdiff1d(np.arange(len(index.person_names)), people)
    if len(absent):
        what = f"{many(len(absent), 'identity')} without a box: {some([index.person_names[i] for i in absent])}"
        yield Problem("noted", "", what, "nothing is learnt of them", len(absent))
    if len(np.unique(index.camera_ids)) > 1:
        seen, _ = np.unique(np.stack([people, index.camera_ids[images]]), axis=1, return_counts=True)
        present, cameras = np.unique(seen[0], return_counts=True)
        single = present[cameras == 1]
        if len(single):
            what = f"{len(single):,} of {many(len(present), 'identity')} seen by one camera only: "
            what += some([index.person_names[i] for i in single])
            yield Problem("noted", "", what, "they teach nothing across cameras", len(single))


def _present(survey: Survey) -> set[str]:
    """Names of the identities that have a box."""
    ids = np.unique(survey.index.person_ids)
    return {survey.index.person_names[person] for person in ids[ids >= 0].tolist()}


def _queries(survey: Survey) -> Iterator[Problem]:
    protocols = survey.index.protocols
    told: set[tuple[int, int, bytes]] = set()
    for name, table in protocols.items():
        where = f"protocol `{name}`: " if len(protocols) > 1 else ""
        unknown = _unknown(table, len(survey.index.image_paths))
        if unknown:
            what = f"{where}{many(unknown, 'entry')} naming images that the split does not have"
            yield Problem("wrong", "", what, "correct the protocol's file", unknown)
            continue
        yield from _query_boxes(survey, table, where, told)
        yield from _galleries(survey, table, where)


def _unknown(table: QueryTable, images: int) -> int:
    named = np.concatenate([table.image_indices, table.gallery_images])
    return int(((named < 0) | (named >= images)).sum())


def _query_boxes(survey: Survey, table: QueryTable, where: str, told: set[tuple[int, int, bytes]]) -> Iterator[Problem]:
    """Queries whose box no label of their person overlaps; ``told`` are those of the protocols before."""
    index, missed = survey.index, []
    for image, box, person in zip(table.image_indices.tolist(), table.boxes_xyxy, table.person_ids, strict=True):
        key = (image, int(person), box.tobytes())
        if key in told:
            continue
        told.add(key)
        rows = slice(int(index.offsets[image]), int(index.offsets[image + 1]))
        own = index.boxes_xyxy[rows][index.person_ids[rows] == person]
        if not len(own) or box_iou(box[None], own).max() < MATCHING_IOU:
            missed.append(f"{index.person_names[person]} in {_name(survey, image)}")
    if missed:
        what = f"{where}{many(len(missed), 'query')} whose box no label of the person overlaps: {some(missed)}"
        yield Problem("wrong", "", what, f"correct the box or the identity (IoU {MATCHING_IOU} or more)", len(missed))


def _galleries(survey: Survey, table: QueryTable, where: str) -> Iterator[Problem]:
    index, images = survey.index, len(survey.index.image_paths)
    labelled = np.flatnonzero(index.person_ids >= 0)
    order = labelled[np.argsort(index.person_ids[labelled], kind="stable")]
    starts = np.searchsorted(index.person_ids[order], np.arange(len(index.person_names) + 1))
    shown_in = _image_of_box(survey)[order]
    in_gallery = np.zeros(images, bool)
    unanswered, own, repeated = [], 0, 0
    for number, (image, person) in enumerate(zip(table.image_indices.tolist(), table.person_ids.tolist(), strict=True)):
        shown = shown_in[starts[person] : starts[person + 1]]
        gallery = int(table.gallery_numbers[number])
        if gallery < 0:
            answered = bool((shown != image).any())
        else:
            listed = table.gallery_images[table.gallery_offsets[gallery] : table.gallery_offsets[gallery + 1]]
            in_gallery[listed] = True
            answered = bool(in_gallery[shown].any())
            own += bool(in_gallery[image])
            repeated += int(np.count_nonzero(in_gallery)) < len(listed)
            in_gallery[listed] = False
        if not answered:
            unanswered.append(f"{index.person_names[person]} in {_name(survey, image)}")
    if unanswered:
        what = f"{where}{many(len(unanswered), 'query')} whose gallery does not show the person: {some(unanswered)}"
        yield Problem("wrong", "", what, "extend the gallery, or leave the query out", len(unanswered))
    if own:
        what = f"{where}{many(own, 'query')} with the query's own image in the gallery"
        yield Problem("noted", "", what, "strict evaluation leaves it out", own)
    if repeated:
        what = f"{where}{many(repeated, 'query')} with an image twice in the gallery"
        yield Problem("noted", "", what, "strict evaluation counts it once", repeated)
