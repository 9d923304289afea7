"""The annotated picture: what was found, who it is, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from personsearch.core.detections import Detections, FloatArray
from personsearch.core.preprocess import Frame
from personsearch.runtime.matching import Match
from personsearch.runtime.query import PersonQuery

Colour = tuple[int, int, int]
# BGR; apart from one another for most kinds of colour vision (Okabe and Ito, brightened for video).
_PALETTE: tuple[Colour, ...] = (
    (60, 220, 60),
    (0, 160, 255),
    (255, 190, 60),
    (190, 110, 255),
    (70, 230, 240),
    (255, 120, 120),
)
_PERSON: Colour = (225, 225, 225)
_DARK: Colour = (24, 24, 24)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SHOWN_QUERIES = 4


@dataclass(frozen=True)
class Caption:
    """The figures of the header line."""

    time_s: float
    frame: int
    compute_ms: float


def clock(seconds: float) -> str:
    """``75.25`` as ``1:15.2``; hours where there are any."""
    tenths = int(seconds * 10 + 1e-6)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    text = f"{minutes:02d}:{rest // 10:02d}.{rest % 10}" if hours else f"{minutes}:{rest // 10:02d}.{rest % 10}"
    return f"{hours}:{text}" if hours else text


class Annotator:
    """Draws on frames of one size.

    Args:
        frame_wh: size of the frames, pixels.
        queries: their names, colours and pictures are shown.
    """

    def __init__(self, frame_wh: tuple[int, int], queries: Sequence[PersonQuery]) -> None:
        width, height = frame_wh
        # Text is read relative to the picture's size, with a floor where letters would fall apart.
        self._unit = max(0.5, min(width, height) / 720)
        self._text = max(0.42, 0.62 * self._unit)
        self._thin = max(1, round(1.2 * self._unit))
        self._thick = max(2, round(3.2 * self._unit))
        self._header = round(34 * self._unit)
        self._names = [query.name for query in queries]
        self._cards = [
            self._card(query, self.colour(index), height) for index, query in enumerate(queries[:_SHOWN_QUERIES])
        ]

    @staticmethod
    def colour(query: int) -> Colour:
        """BGR colour of the query at that position."""
        return _PALETTE[query % len(_PALETTE)]

    def draw(self, image: Frame, detections: Detections, matches: Sequence[Match], caption: Caption) -> Frame:
        """A new picture: thin boxes around people, thick ones with a label around matches, header and queries.

        Args:
            image: uint8 BGR ``(H, W, 3)``; not changed.
            detections: of this frame, in its pixels.
            matches: of these detections.
            caption: the header's figures.
        """
        canvas: Frame = image.copy()
        matched = {match.row for match in matches}
        for row, box in enumerate(detections.boxes_xyxy):
            if row not in matched:
                self._rectangle(canvas, box, _PERSON, self._thin)
        # The best last, so that nothing covers it.
        for match in sorted(matches, key=lambda match: (match.is_best, match.similarity)):
            self._draw_match(canvas, detections.boxes_xyxy[match.row], match)
        self._draw_cards(canvas, {match.query for match in matches})
        self._draw_header(canvas, len(detections), caption)
        return canvas

    @staticmethod
    def _rectangle(canvas: Frame, box: FloatArray, colour: Colour, thickness: int) -> None:
        x1, y1, x2, y2 = (round(float(value)) for value in box)
        out = thickness // 2  # a thick line grows outwards, not over a small person
        first, second = (x1 - out, y1 - out), (x2 - 1 + out, y2 - 1 + out)
        if thickness > 1:
            # A dark line beneath sets it off from ground of its own colour.
            cv2.rectangle(canvas, first, second, _DARK, thickness + 2, cv2.LINE_AA)
        cv2.rectangle(canvas, first, second, colour, thickness, cv2.LINE_AA)

    def _draw_match(self, canvas: Frame, box: FloatArray, match: Match) -> None:
        colour = self.colour(match.query)
        self._rectangle(canvas, box, colour, self._thick if match.is_best else self._thin)
        if not match.is_best:
            return
        label = f"{self._names[match.query]} {match.similarity:.2f}"
        (width, height), base = cv2.getTextSize(label, _FONT, self._text, self._thin)
        pad = round(5 * self._unit)
        tall = height + base + pad
        left = int(np.clip(round(float(box[0])) - self._thick // 2, 0, max(0, canvas.shape[1] - width - 2 * pad)))
        top = round(float(box[1])) - tall
        if top < self._header:  # no room above: inside the box
            top = max(self._header, round(float(box[1])))
        cv2.rectangle(canvas, (left, top), (left + width + 2 * pad, top + tall), colour, cv2.FILLED)
        self._put(canvas, label, (left + pad, top + height + pad // 2 + 1), _DARK)

    def _put(self, canvas: Frame, text: str, origin: tuple[int, int], colour: Colour) -> None:
        cv2.putText(canvas, text, origin, _FONT, self._text, colour, self._thin, cv2.LINE_AA)

    def _draw_header(self, canvas: Frame, people: int, caption: Caption) -> None:
        strip = canvas[: self._header]
        strip[:] = cv2.addWeighted(strip, 0.35, np.full_like(strip, _DARK), 0.65, 0)
        line = self._header - round(11 * self._unit)
        gap = round(12 * self._unit)
        self._put(canvas, clock(caption.time_s), (gap, line), (255, 255, 255))
        noun = "person" if people == 1 else "people"
        figures = f"{people} {noun}   frame {caption.frame}   {caption.compute_ms:.0f} ms"
        (width, _), _ = cv2.getTextSize(figures, _FONT, self._text, self._thin)
        self._put(canvas, figures, (canvas.shape[1] - width - gap, line), (200, 200, 200))

    def _card(self, query: PersonQuery, colour: Colour, frame_height: int) -> Frame:
        """The query's picture in a border of its colour, its name beneath."""
        height = max(24, round(0.2 * frame_height))
        source_height, source_width = query.thumbnail.shape[:2]
        width = int(np.clip(round(height * source_width / source_height), height // 3, height))
        interpolation = cv2.INTER_AREA if source_height > height else cv2.INTER_CUBIC
        picture = cv2.resize(query.thumbnail, (width, height), interpolation=interpolation)
        (text_width, text_height), base = cv2.getTextSize(query.name, _FONT, self._text, self._thin)
        border, pad = self._thick, round(4 * self._unit)
        name_height = text_height + base + pad
        wide = max(width, min(text_width + 2 * pad, 2 * height)) + 2 * border
        card = np.full((height + 2 * border + name_height, wide, 3), _DARK, dtype=np.uint8)
        card[:border], card[:, :border], card[:, wide - border :] = colour, colour, colour
        card[height + border :] = colour
        left = (wide - width) // 2
        card[border : border + height, left : left + width] = picture
        text_left = max(pad, (wide - text_width) // 2)
        self._put(card, query.name, (text_left, height + border + text_height + pad // 2), _DARK)
        return card

    def _draw_cards(self, canvas: Frame, present: set[int]) -> None:
        """Query pictures in the lower left corner: full when the person is in the frame, faint otherwise."""
        gap = round(12 * self._unit)
        left = gap
        for index, card in enumerate(self._cards):
            height, width = card.shape[:2]
            top = canvas.shape[0] - gap - height
            if top < self._header or left + width + gap > canvas.shape[1]:
                return
            spot = canvas[top : top + height, left : left + width]
            strength = 1.0 if index in present else 0.55
            spot[:] = cv2.addWeighted(card, strength, spot, 1 - strength, 0)
            left += width + gap
