"""Text, boxes and cells of a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from personsearch.data.sample import IGNORE, UNLABELLED, FloatArray, Frame, IntArray

Colour = tuple[int, int, int]
PAPER: Colour = (30, 30, 30)
INK: Colour = (235, 235, 235)
FAINT: Colour = (160, 160, 160)
GREY: Colour = (190, 190, 190)
ALARM: Colour = (90, 110, 255)
_DARK: Colour = (16, 16, 16)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_HATCH_PX = 16
_TAG_SCALE = 0.45
_MAX_TAGS = 100
"""More would hide the people of a crowd."""
_GOLDEN = 0.6180339887


def blank(width: int, height: int) -> Frame:
    """``(height, width, 3)`` of the sheet's ground."""
    return np.full((height, width, 3), PAPER, np.uint8)


def identity_colour(person_id: int) -> Colour:
    """BGR of an identity, always the same; numbers next to one another get colours far apart."""
    hue = round(180 * ((person_id * _GOLDEN) % 1.0)) % 180
    # Two strengths more, so that hues that come close again still differ.
    saturation, value = ((225, 255), (130, 255), (255, 205))[person_id // 5 % 3]
    blue, green, red = cv2.cvtColor(np.array([[[hue, saturation, value]]], np.uint8), cv2.COLOR_HSV2BGR)[0, 0].tolist()
    return int(blue), int(green), int(red)


def text_width(text: str, scale: float) -> int:
    """Pixels that `put_text` takes."""
    return int(cv2.getTextSize(_plain(text), _FONT, scale, 1)[0][0])


def shortened(text: str, width: int, scale: float) -> str:
    """The text, or as much of its end as fits ``width`` pixels: of a path the file's name tells most."""
    if text_width(text, scale) <= width:
        return text
    while text and text_width(f"...{text}", scale) > width:
        text = text[1:]
    return f"...{text}"


def wrapped(text: str, width: int, scale: float) -> list[str]:
    """The text in lines of up to ``width`` pixels, broken at spaces where there are some."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and text_width(f"{lines[-1]} {word}", scale) <= width:
            lines[-1] += f" {word}"
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if text_width(lines[-1] + letter, scale) > width:
                lines.append("")
            lines[-1] += letter
    return lines


def put_text(canvas: Frame, text: str, left: int, baseline: int, scale: float, colour: Colour = INK) -> None:
    """Writes one line; what the font lacks becomes ``?``."""
    cv2.putText(canvas, _plain(text), (left, baseline), _FONT, scale, colour, 1, cv2.LINE_AA)


def _plain(text: str) -> str:
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)


def draw_labels(canvas: Frame, boxes_xyxy: FloatArray, person_ids: IntArray) -> int:
    """Draws boxes in the canvas's pixels with the ids of those that have one.

    Colours go by identity; people without one are grey; what is to be ignored is hatched. An id is left out where it
    would cover another one, and in a crowd for all but the largest boxes.

    Returns:
        How many ids were left out.
    """
    corners = np.rint(boxes_xyxy).astype(int)
    for corner in corners[person_ids == IGNORE]:
        _hatch(canvas, corner)
    for corner, person_id in zip(corners, person_ids.tolist(), strict=True):
        if person_id > IGNORE:
            _outline(canvas, corner, GREY if person_id == UNLABELLED else identity_colour(person_id))
    taken: list[tuple[int, int, int, int]] = []
    left_out = 0
    areas = (boxes_xyxy[:, 2] - boxes_xyxy[:, 0]) * (boxes_xyxy[:, 3] - boxes_xyxy[:, 1])
    for row in np.argsort(-areas, kind="stable").tolist():
        if person_ids[row] >= 0:
            drawn = len(taken) < _MAX_TAGS and _tag(canvas, corners[row], int(person_ids[row]), taken)
            left_out += not drawn
    return left_out


def _outline(canvas: Frame, corner: IntArray, colour: Colour) -> None:
    x1, y1, x2, y2 = corner.tolist()
    thick = 2 if min(x2 - x1, y2 - y1) >= 16 else 1
    last = (max(x1, x2 - 1), max(y1, y2 - 1))
    cv2.rectangle(canvas, (x1, y1), last, _DARK, thick + 2)
    cv2.rectangle(canvas, (x1, y1), last, colour, thick)


def _hatch(canvas: Frame, corner: IntArray) -> None:
    x1, y1, x2, y2 = (max(0, side) for side in corner.tolist())
    patch = canvas[y1:y2, x1:x2]
    if not patch.size:
        return
    height, width = patch.shape[:2]
    for start in range(-height, width, _HATCH_PX):
        cv2.line(patch, (start + 1, height), (start + 1 + height, 0), _DARK, 1, cv2.LINE_AA)
        cv2.line(patch, (start, height), (start + height, 0), GREY, 1, cv2.LINE_AA)
    cv2.rectangle(patch, (0, 0), (width - 1, height - 1), GREY, 1)


def _tag(canvas: Frame, corner: IntArray, person_id: int, taken: list[tuple[int, int, int, int]]) -> bool:
    """Writes an id above, in or below its box; false where every place is taken."""
    text, colour = str(person_id), identity_colour(person_id)
    width, height = text_width(text, _TAG_SCALE) + 6, 16
    x1, y1, x2, y2 = corner.tolist()
    left = int(np.clip(x1 - 1, 0, max(0, canvas.shape[1] - width)))
    right = int(np.clip(x2 + 1 - width, 0, max(0, canvas.shape[1] - width)))
    for x, y in ((left, y1 - height), (right, y1 - height), (left, y1), (left, y2), (right, y2), (left, y2 - height)):
        place = (x, y, x + width, y + height)
        if y < 0 or y + height > canvas.shape[0] or any(_meet(place, other) for other in taken):
            continue
        taken.append(place)
        cv2.rectangle(canvas, (x, y), (x + width - 1, y + height - 1), colour, cv2.FILLED)
        light = 0.114 * colour[0] + 0.587 * colour[1] + 0.299 * colour[2] > 110
        put_text(canvas, text, x + 3, y + height - 4, _TAG_SCALE, _DARK if light else (255, 255, 255))
        return True
    return False


def _meet(first: tuple[int, int, int, int], second: tuple[int, int, int, int]) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def fitted(picture: Frame, width: int, height: int, enlarge: float) -> tuple[Frame, float]:
    """The picture at the largest scale, of ``enlarge`` at most, that fits; and that scale."""
    scale = min(width / picture.shape[1], height / picture.shape[0], enlarge)
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, size, interpolation=method), np.uint8), scale


def unreadable_cell(width: int, height: int, name: str) -> Frame:
    """What stands in place of a picture that cannot be read."""
    cell = np.full((height, width, 3), (45, 45, 60), np.uint8)
    cv2.rectangle(cell, (0, 0), (width - 1, height - 1), ALARM, 1)
    if width < 200:
        put_text(cell, "bad", 4, height // 2, 0.45, ALARM)
    else:
        put_text(cell, "cannot be read:", 12, height // 2 - 12, 0.5, ALARM)
        put_text(cell, shortened(name, width - 24, 0.5), 12, height // 2 + 12, 0.5)
    return cell


def beside(pictures: Sequence[Frame], gap: int) -> Frame:
    """Pictures in a row, tops aligned."""
    height = max(picture.shape[0] for picture in pictures)
    width = sum(picture.shape[1] for picture in pictures) + gap * (len(pictures) - 1)
    row = blank(width, height)
    left = 0
    for picture in pictures:
        row[: picture.shape[0], left : left + picture.shape[1]] = picture
        left += picture.shape[1] + gap
    return row


def stacked(pictures: Sequence[Frame], width: int, gap: int) -> Frame:
    """Pictures of up to ``width`` pixels one below the other, left aligned."""
    page = blank(width, sum(picture.shape[0] for picture in pictures) + gap * (len(pictures) - 1))
    top = 0
    for picture in pictures:
        page[top : top + picture.shape[0], : picture.shape[1]] = picture
        top += picture.shape[0] + gap
    return page
