"""Pictures of a data set for a person to look at: frames with their labels, and each identity across cameras."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import numpy as np

from personsearch.core.errors import InputError
from personsearch.core.seeding import rng_for
from personsearch.data import sheet_drawing as draw
from personsearch.data.sample import UNLABELLED, Frame, IntArray, SearchDataset
from personsearch.data.survey import Survey, spread, survey

PAGE_WIDTH_PX = 1960
FRAMES_A_PAGE, IDENTITIES_A_PAGE = 12, 8
_COLUMNS, _GAP, _MARGIN = 3, 16, 18
_CELL_WH = (630, 560)
_CROP_WH = (84, 180)
_HEAD_PX = 210
_RENDERED_LOOKED_AT = 400


@dataclass(frozen=True, eq=False)
class Page:
    """One picture of a contact sheet.

    Attributes:
        name: ``frames-1``, ``identities-1`` and so on.
        picture: ``(H, 1960, 3)`` uint8 BGR.
    """

    name: str
    picture: Frame


@dataclass(frozen=True, eq=False)
class ContactSheet:
    """The pages, and the lines that say which images could not be read."""

    pages: tuple[Page, ...]
    unreadable: tuple[str, ...]


def contact_sheet(
    dataset: SearchDataset, *, title: str, frames: int = 12, identities: int = 8, seed: int = 0
) -> ContactSheet:
    """Draws frames with boxes and ids, and for some identities their crops camera by camera.

    The same seed shows the same. Frames are spread over the data set; identities whom several cameras saw come
    before others. Of a data set that renders its frames 400 are looked at for identities.

    Args:
        dataset: one split.
        title: stands above each page.
        frames: how many, 0 for none.
        identities: how many, 0 for none.
        seed: of the choice.

    Raises:
        InputError: there is nothing to show, or no image can be read.
    """
    looked_at = survey(dataset, max(_RENDERED_LOOKED_AT, frames), seed)
    if not len(looked_at.rows):
        raise InputError("has no images", where=title, expected="at least one to show")
    pixels = _Pixels(looked_at)
    pages = [
        *_pages("frames", _frame_rows(looked_at, pixels, frames, seed), FRAMES_A_PAGE // _COLUMNS),
        *_pages("identities", _packed(_identity_rows(looked_at, pixels, identities, seed)), IDENTITIES_A_PAGE),
    ]
    if not pages:
        raise InputError("nothing to show", where=title, expected="--frames above 0, or identities to show")
    if pixels.unreadable and not pixels.read:
        raise InputError(
            f"no image can be read, neither {pixels.unreadable[0]} nor any other looked at",
            where=title,
            remedy="`personsearch data check` says what is missing",
        )
    header = _header(looked_at, title)
    return ContactSheet(
        tuple(
            Page(name, _framed(draw.stacked([header, *rows], PAGE_WIDTH_PX - 2 * _MARGIN, _GAP)))
            for name, rows in pages
        ),
        tuple(pixels.unreadable),
    )


def joined(sheet: ContactSheet) -> Frame:
    """All pages one below the other."""
    return draw.stacked([page.picture for page in sheet.pages], PAGE_WIDTH_PX, 0)


class _Pixels:
    """Reads frames; of one that cannot be read the line is kept, once."""

    def __init__(self, looked_at: Survey) -> None:
        self._survey = looked_at
        self._last: tuple[int, Frame | None] | None = None
        self.unreadable: list[str] = []
        self.read = 0

    def __call__(self, image: int) -> Frame | None:
        if self._last is None or self._last[0] != image:
            self._last = image, self._read(image)
        return self._last[1]

    def _read(self, image: int) -> Frame | None:
        try:
            frame = self._survey.dataset.frame_bgr(int(self._survey.rows[image]))
        except InputError as error:
            if str(error) not in self.unreadable:
                self.unreadable.append(str(error))
            return None
        self.read += 1
        return frame


def _pages(kind: str, rows: list[Frame], rows_a_page: int) -> list[tuple[str, list[Frame]]]:
    return [
        (f"{kind}-{start // rows_a_page + 1}", rows[start : start + rows_a_page])
        for start in range(0, len(rows), rows_a_page)
    ]


def _packed(rows: list[Frame]) -> list[Frame]:
    """Rows side by side where they are short enough, in their order."""
    lines: list[list[Frame]] = []
    for row in rows:
        width = sum(other.shape[1] + 2 * _GAP for other in lines[-1]) if lines else 0
        if lines and width + row.shape[1] <= PAGE_WIDTH_PX - 2 * _MARGIN:
            lines[-1].append(row)
        else:
            lines.append([row])
    return [draw.beside(line, 2 * _GAP) for line in lines]


def _framed(picture: Frame) -> Frame:
    return np.pad(picture, ((_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0)), constant_values=draw.PAPER[0])


def _header(looked_at: Survey, title: str) -> Frame:
    counts = looked_at.index.counts()
    strip = draw.blank(PAGE_WIDTH_PX - 2 * _MARGIN, 56)
    draw.put_text(strip, draw.shortened(title, strip.shape[1], 0.8), 0, 24, 0.8)
    shown = f"{len(looked_at.dataset):,} images"
    if not looked_at.whole:
        shown += f"; in {len(looked_at.rows):,} of them"
    people = f"{counts['boxes']:,} boxes of people, {counts['labelled']:,} with one of "
    people += f"{counts['identities']:,} {'identity' if counts['identities'] == 1 else 'identities'}"
    figures = f"{shown}, {people}, {counts['cameras']:,} camera{'' if counts['cameras'] == 1 else 's'}"
    draw.put_text(strip, figures, 0, 50, 0.5, draw.FAINT)
    legend = "a colour and number: an identity     grey: a person without one     hatched: to be ignored"
    draw.put_text(strip, legend, strip.shape[1] - draw.text_width(legend, 0.5), 50, 0.5, draw.FAINT)
    return strip


def _rows_of(looked_at: Survey, image: int) -> slice:
    return slice(int(looked_at.index.offsets[image]), int(looked_at.index.offsets[image + 1]))


def _frame_rows(looked_at: Survey, pixels: _Pixels, frames: int, seed: int) -> list[Frame]:
    chosen = spread(len(looked_at.rows), frames, seed).tolist()
    cells = [_frame_cell(looked_at, pixels, image) for image in chosen]
    return [draw.beside(cells[start : start + _COLUMNS], _GAP) for start in range(0, len(cells), _COLUMNS)]


def _frame_cell(looked_at: Survey, pixels: _Pixels, image: int) -> Frame:
    index, rows = looked_at.index, _rows_of(looked_at, image)
    name = index.image_paths[image] or f"frame {looked_at.rows[image]}, rendered"
    frame = pixels(image)
    left_out = 0
    if frame is None:
        shown = draw.unreadable_cell(_CELL_WH[0], _CELL_WH[0] * 9 // 16, name)
    else:
        shown, scale = draw.fitted(frame, *_CELL_WH, enlarge=2.0)
        left_out = draw.draw_labels(shown, index.boxes_xyxy[rows] * scale, index.person_ids[rows])
    ids = index.person_ids[rows]
    people = int((ids >= UNLABELLED).sum())
    told = f"camera {index.camera_ids[image]}   frame {index.frame_indices[image]}   "
    told += f"{people:,} {'person' if people == 1 else 'people'}, {int((ids >= 0).sum()):,} with identity"
    told += f", {left_out:,} ids not drawn" if left_out else ""
    strip = draw.blank(_CELL_WH[0], 42)
    draw.put_text(strip, draw.shortened(name, _CELL_WH[0], 0.45), 0, 15, 0.45)
    draw.put_text(strip, draw.shortened(told, _CELL_WH[0], 0.45), 0, 34, 0.45, draw.FAINT)
    return draw.stacked([strip, shown], _CELL_WH[0], 0)


@dataclass(frozen=True, eq=False)
class _Seen:
    """Boxes of one identity, camera by camera and in the order of time: rows of the index, images, cameras."""

    person: int
    rows: IntArray
    images: IntArray
    cameras: IntArray


def _identity_rows(looked_at: Survey, pixels: _Pixels, identities: int, seed: int) -> list[Frame]:
    chosen = _choose(looked_at, identities, seed)
    room = (PAGE_WIDTH_PX - 2 * _MARGIN - _HEAD_PX) // (_CROP_WH[0] + 8)
    picked = [_pick(one, room, seed) for one in chosen]
    # Read image by image: people met in one image share it, and frames are large.
    crops: dict[int, Frame] = {}
    wanted = sorted((int(image), int(row)) for one in picked for image, row in zip(one.images, one.rows, strict=True))
    for image, row in wanted:
        crops[row] = _crop(looked_at, pixels, image, row)
    return [_identity_row(looked_at, one, all_of, crops) for one, all_of in zip(picked, chosen, strict=True)]


def _choose(looked_at: Survey, identities: int, seed: int) -> list[_Seen]:
    index = looked_at.index
    image_of = np.repeat(np.arange(len(index.image_paths)), np.diff(index.offsets))
    rows = np.flatnonzero(index.person_ids >= 0)
    images = image_of[rows]
    order = np.lexsort((index.frame_indices[images], index.camera_ids[images], index.person_ids[rows]))
    rows, images = rows[order], images[order]
    found = []
    for person, group in groupby(range(len(rows)), key=lambda i: int(index.person_ids[rows[i]])):
        part = np.fromiter(group, np.int64)
        found.append(_Seen(person, rows[part], images[part], index.camera_ids[images[part]]))
    shuffled = rng_for(seed, "identities").permutation(len(found)).tolist()
    ranked = sorted(shuffled, key=lambda i: (-min(2, len(np.unique(found[i].cameras))), -min(2, len(found[i].rows))))
    return [found[i] for i in sorted(ranked[:identities])]


def _pick(seen: _Seen, room: int, seed: int) -> _Seen:
    """As many boxes as fit a row: every camera its share, spread over time."""
    cameras, counts = np.unique(seen.cameras, return_counts=True)
    kept = spread(len(cameras), room, seed)
    share = np.zeros(len(cameras), np.int64)
    while share.sum() < room and (share[kept] < counts[kept]).any():
        for camera in kept.tolist():
            share[camera] += share[camera] < counts[camera] and share.sum() < room
    parts = [
        np.flatnonzero(seen.cameras == camera)[spread(count, quota, seed)]
        for camera, count, quota in zip(cameras, counts.tolist(), share.tolist(), strict=True)
    ]
    part = np.concatenate(parts)
    return _Seen(seen.person, seen.rows[part], seen.images[part], seen.cameras[part])


def _crop(looked_at: Survey, pixels: _Pixels, image: int, row: int) -> Frame:
    """The box's pixels in a cell; what the label cuts off is seen to be missing."""
    frame = pixels(image)
    if frame is None:
        return draw.unreadable_cell(*_CROP_WH, looked_at.index.image_paths[image])
    x1, y1, x2, y2 = looked_at.index.boxes_xyxy[row]
    # At least one pixel, also of a box in the last fraction of one.
    left, top = min(int(x1), frame.shape[1] - 1), min(int(y1), frame.shape[0] - 1)
    pixels_bgr = frame[top : max(top + 1, int(np.ceil(y2))), left : max(left + 1, int(np.ceil(x2)))]
    shown, _ = draw.fitted(pixels_bgr, *_CROP_WH, enlarge=8.0)
    cell = draw.blank(*_CROP_WH)
    y, x = _CROP_WH[1] - shown.shape[0], (_CROP_WH[0] - shown.shape[1]) // 2
    cell[y : y + shown.shape[0], x : x + shown.shape[1]] = shown
    return cell


def _identity_row(looked_at: Survey, picked: _Seen, seen: _Seen, crops: dict[int, Frame]) -> Frame:
    index, colour = looked_at.index, draw.identity_colour(picked.person)
    head = draw.blank(_HEAD_PX - 8, _CROP_WH[1] + 44)
    head[4:-4, :8] = colour
    name, cameras = index.person_names[picked.person], len(np.unique(seen.cameras))
    draw.put_text(head, f"id {picked.person}", 18, 46, 0.85)
    told = draw.wrapped(name, head.shape[1] - 18, 0.48)[:2] if name != str(picked.person) else []
    boxes = f"{len(seen.rows):,} box{'' if len(seen.rows) == 1 else 'es'}"
    small = [f"{boxes}, {cameras} camera{'' if cameras == 1 else 's'}"]
    if len(picked.rows) < len(seen.rows):
        small.append(f"{len(picked.rows)} of them shown")
    for line, text in enumerate([*told, *small]):
        draw.put_text(head, text, 18, 76 + 22 * line, 0.48, draw.INK if line < len(told) else draw.FAINT)
    groups = []
    for camera, part in groupby(range(len(picked.rows)), key=lambda i: int(picked.cameras[i])):
        cells = [_captioned(crops[int(picked.rows[i])], str(index.frame_indices[picked.images[i]])) for i in part]
        group = draw.beside(cells, 4)
        title = draw.blank(group.shape[1], 22)
        title[-2:] = draw.FAINT
        draw.put_text(title, draw.shortened(f"camera {camera}", title.shape[1], 0.45), 0, 14, 0.45)
        groups.append(draw.stacked([title, group], group.shape[1], 2))
    return draw.beside([head, draw.beside(groups, 8)], 8)


def _captioned(crop: Frame, frame: str) -> Frame:
    strip = draw.blank(_CROP_WH[0], 20)
    text = draw.shortened(frame, _CROP_WH[0], 0.4)
    draw.put_text(strip, text, (_CROP_WH[0] - draw.text_width(text, 0.4)) // 2, 14, 0.4, draw.FAINT)
    return draw.stacked([crop, strip], _CROP_WH[0], 0)
