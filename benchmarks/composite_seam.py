"""Whether a paste shows: a small classifier that sees only the rim of silhouettes.

It sees how rough, how steep and how sharp the picture is at each distance from a silhouette's edge, a few pixels to
either side, and no place, shape, size or colour. What it can tell apart, a detector can. Five questions, each balanced
so that chance is one half:

- a pasted person or untouched street under the same silhouette: what a detector would learn without decoys;
- a decoy or untouched street: whether pasting shows at all;
- a pasted person or a decoy: what the rim still says once decoys are pasted;
- a decoy of clothes or a decoy of street: what texture alone says, both being pasted alike and neither a person;
- decoys or decoys, told apart by a coin: what the classifier finds where there is nothing.

With real people in the backgrounds, also pasted or real people of one frame, both silhouettes found by GrabCut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from personsearch.core.errors import InputError
from personsearch.core.progress import StageProgress
from personsearch.core.recipe import StrictModel
from personsearch.core.seeding import rng_for
from personsearch.data.composites import Composite, CompositeDataset
from personsearch.data.cutouts import CROP_HW, grabcut_mask, half_size
from personsearch.data.sample import UNLABELLED, Frame

Mask = NDArray[np.bool_]
Features = NDArray[np.float64]
# Signed distances from the edge in pixels, inside positive.
_BINS = (-4.5, -2.5, -1.5, 0.0, 1.5, 2.5)
_REACH_PX = 6
_MIN_HEIGHT_PX, _MIN_SHOWN = 40, 0.5
_MIN_EXAMPLES, _FOLDS = 40, 5
_RIDGE, _STEPS = 3.0, 12


class SeamResult(StrictModel):
    """How often the rim of a silhouette gives its kind away; one half is chance."""

    accuracy: dict[str, float] = Field(description="share of held-out silhouettes told right, by question")
    examples: dict[str, int] = Field(description="silhouettes of each of the two kinds, by question")


@dataclass(frozen=True, eq=False)
class _Rim:
    """What is seen of one silhouette, and in which frame."""

    kind: str
    frame: int
    features: Features


def measure_seam(dataset: CompositeDataset, images: int, *, seed: int = 0) -> SeamResult:
    """Asks the questions of the module on the first ``images`` composites.

    Frames are divided between learning and testing, so that no silhouette is tested beside its own surroundings.

    Args:
        dataset: with decoys.
        images: composites to look at.
        seed: of the places of untouched silhouettes and of the coin.

    Raises:
        InputError: too few silhouettes of a kind were found.
    """
    rims: list[_Rim] = []
    with StageProgress("looking at rims", images) as progress:
        for index in range(images):
            composite = dataset.composite(index)
            rims += _silhouettes(composite, index, rng_for(seed, "silhouettes", index))
            rims += _people(composite, index)
            progress.advance()
    coin = rng_for(seed, "coin")
    decoys = [rim for rim in rims if rim.kind.startswith("decoy")]
    halves = [_Rim(f"half {coin.integers(2)}", rim.frame, rim.features) for rim in decoys]
    alike = [_Rim("decoy", rim.frame, rim.features) for rim in decoys]
    questions = {
        "person_or_street": ("person", "street"),
        "decoy_or_street": ("decoy", "street"),
        "person_or_decoy": ("person", "decoy"),
        "clothes_or_street_decoy": ("decoy of clothes", "decoy of street"),
        "decoy_or_decoy": ("half 0", "half 1"),
    }
    if sum(rim.kind == "real" for rim in rims) >= _MIN_EXAMPLES:
        questions["pasted_or_real"] = ("pasted", "real")
    accuracy, examples = {}, {}
    for name, kinds in questions.items():
        accuracy[name], examples[name] = _told_apart([*rims, *alike, *halves], kinds, dataset.name)
    return SeamResult(accuracy=accuracy, examples=examples)


def _silhouettes(composite: Composite, frame: int, rng: np.random.Generator) -> Iterator[_Rim]:
    """Pasted people and decoys in a person's shape, and each silhouette once more where nothing was pasted."""
    touched = cv2.dilate((composite.owner > 0).astype(np.uint8), np.ones((2 * _REACH_PX + 1,) * 2, np.uint8)) > 0
    grey = _channels(composite.image_bgr)
    for number, kind in enumerate(composite.kinds, start=1):
        mask = composite.owner == number
        if not kind.startswith(("person", "decoy")) or not _whole(mask):
            continue
        yield _Rim(kind, frame, _features(grey, mask))
        shift = int(rng.integers(mask.shape[1]))
        moved = np.roll(mask, shift, axis=1)
        if not (moved & touched).any() and _whole(moved):
            yield _Rim("street", frame, _features(grey, moved))


def _people(composite: Composite, frame: int) -> Iterator[_Rim]:
    """People of one frame, pasted and real, by silhouettes that were found in the finished picture."""
    sample, grey = composite.sample, _channels(composite.image_bgr)
    height, width = composite.owner.shape
    for box, person_id in zip(np.rint(sample.boxes_xyxy).astype(int), sample.person_ids.tolist(), strict=True):
        x1, y1, x2, y2 = box.tolist()
        if person_id < UNLABELLED or y2 - y1 < _MIN_HEIGHT_PX or min(x1, y1, width - x2, height - y2) < _REACH_PX:
            continue
        owners = composite.owner[y1:y2, x1:x2]
        pasted = np.isin(owners, [n for n, kind in enumerate(composite.kinds, start=1) if kind == "person"])
        kind = "pasted" if pasted.mean() > 0.4 else "real" if (owners == 0).mean() > 0.9 else None
        if kind is not None:
            mask = np.zeros((height, width), dtype=bool)
            mask[y1:y2, x1:x2] = _found(composite.image_bgr[y1:y2, x1:x2])
            if mask.sum() > 0.15 * owners.size:
                yield _Rim(kind, frame, _features(grey, mask))


def _found(person_bgr: Frame) -> Mask:
    crop = np.asarray(cv2.resize(person_bgr, CROP_HW[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)
    mask = cv2.resize(grabcut_mask(half_size(crop)), (person_bgr.shape[1], person_bgr.shape[0]))
    return np.asarray(mask > 0)


def _whole(mask: Mask) -> bool:
    """Whether a silhouette is large enough, inside the picture, and not mostly covered."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows) or rows[-1] - rows[0] < _MIN_HEIGHT_PX:
        return False
    box = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
    margin = min(rows[0], columns[0], mask.shape[0] - 1 - rows[-1], mask.shape[1] - 1 - columns[-1])
    return bool(margin >= _REACH_PX and mask.sum() > 0.5 * _MIN_SHOWN * box)


def _channels(image_bgr: Frame) -> NDArray[np.float32]:
    """``(H, W, 2)`` lightness and redness less blueness."""
    ycc = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2YCrCb).astype(np.float32)
    return np.stack([ycc[..., 0], ycc[..., 1] - ycc[..., 2]], axis=-1)


def _features(channels: NDArray[np.float32], mask: Mask) -> Features:
    """Logarithms of mean curvature, slope and slope across the edge in each bin of distance, and how they vary."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    window = np.s_[
        max(rows[0] - _REACH_PX, 0) : rows[-1] + _REACH_PX + 1,
        max(columns[0] - _REACH_PX, 0) : columns[-1] + _REACH_PX + 1,
    ]
    inside = mask[window].astype(np.uint8)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, 5) - cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5)
    across_x, across_y = cv2.Sobel(distance, cv2.CV_32F, 1, 0), cv2.Sobel(distance, cv2.CV_32F, 0, 1)
    length = np.maximum(np.hypot(across_x, across_y), 1e-6)
    bins = np.digitize(distance, _BINS)
    found: list[float] = []
    for channel in range(channels.shape[-1]):
        plane = np.ascontiguousarray(channels[window][..., channel])
        slope_x, slope_y = cv2.Sobel(plane, cv2.CV_32F, 1, 0), cv2.Sobel(plane, cv2.CV_32F, 0, 1)
        maps = (
            np.abs(cv2.Laplacian(plane, cv2.CV_32F)),
            np.hypot(slope_x, slope_y),
            np.abs(slope_x * across_x + slope_y * across_y) / length,
        )
        for values in maps:
            found += [_level(values[bins == number]) for number in range(1, len(_BINS))]
    return np.array(found)


def _level(values: NDArray[np.float32]) -> float:
    return float(np.log1p(values.mean())) if values.size else 0.0


def _told_apart(rims: list[_Rim], kinds: tuple[str, str], name: str) -> tuple[float, int]:
    """Accuracy on held-out frames, and the examples of each kind."""
    groups = [[rim for rim in rims if rim.kind == kind] for kind in kinds]
    count = min(map(len, groups))
    if count < _MIN_EXAMPLES:
        raise InputError(
            f"only {count} silhouettes of {kinds[0]} or {kinds[1]}",
            where=name,
            expected=f"{_MIN_EXAMPLES} or more",
            remedy="look at more images, and of a specification with decoys",
        )
    # Both kinds in equal numbers, spread over the frames.
    chosen = [group[place] for group in groups for place in np.linspace(0, len(group) - 1, count).astype(int)]
    labels = np.repeat([0.0, 1.0], count)
    features = np.stack([rim.features for rim in chosen])
    features = np.concatenate([features, features**2], axis=1)
    fold = np.array([rim.frame for rim in chosen]) % _FOLDS
    right = 0
    for held in range(_FOLDS):
        learnt, tested = fold != held, fold == held
        mean, spread = features[learnt].mean(axis=0), features[learnt].std(axis=0) + 1e-9
        weights = _logistic((features[learnt] - mean) / spread, labels[learnt])
        scores = _with_one((features[tested] - mean) / spread) @ weights
        right += int(((scores > 0) == (labels[tested] > 0.5)).sum())
    return right / len(labels), count


def _logistic(features: Features, labels: Features) -> Features:
    """Weights of a ridge-penalised logistic regression by Newton's method; the last one is the offset."""
    design = _with_one(features)
    weights = np.zeros(design.shape[1])
    penalty = np.full(design.shape[1], _RIDGE)
    penalty[-1] = 1e-6
    for _ in range(_STEPS):
        shares = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        curvature = (design * (shares * (1 - shares))[:, None]).T @ design + np.diag(penalty)
        weights -= np.linalg.solve(curvature, design.T @ (shares - labels) + penalty * weights)
    return weights


def _with_one(features: Features) -> Features:
    return np.concatenate([features, np.ones((len(features), 1))], axis=1)
