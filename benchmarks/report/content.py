"""What a report says, before it looks like anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: what was measured, two or three words.
        note: where it ran or what it is, shown small beside the name.
        figures: values by column key (see ``table.COLUMNS``), in the column's base unit; absent where not measured.
        emphasis: the rows a reader should look at first.
    """

    name: str
    note: str
    figures: dict[str, float]
    emphasis: bool = False


@dataclass(frozen=True)
class Check:
    """One claim about the run, decided by its figures.

    Attributes:
        claim: what ought to hold, with its limit.
        passed: whether it does.
        measured: the figures that decided it.
    """

    claim: str
    passed: bool
    measured: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a JSON file."""
        return {"claim": self.claim, "passed": self.passed, "measured": self.measured}


@dataclass(frozen=True)
class Match:
    """One crop of a ranking: ``crop`` is BGR uint8 ``(H, W, 3)``, ``similarity`` its cosine with the query."""

    crop: Image
    similarity: float
    right: bool


@dataclass(frozen=True)
class Ranking:
    """A query and the gallery people ranked first; ``average_precision`` in [0, 1] is that of the whole ranking."""

    query: Image
    title: str
    average_precision: float
    matches: tuple[Match, ...]


@dataclass(frozen=True)
class Picture:
    """A picture with its caption; BGR uint8 ``(H, W, 3)``."""

    image: Image
    caption: str


@dataclass(frozen=True)
class StageTime:
    """How long a stage took."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Report:
    """Everything on the page, in its order.

    Attributes:
        title: heading of the page.
        summary: paragraphs of plain text under it.
        rows: the table; ``table_notes`` are the sentences under it.
        checks: claims with their verdicts.
        charts: pairs of SVG text (see ``charts``) and caption, under "Learning".
        rankings: queries with their best matches; ``ranking_note`` says how they were chosen.
        stream_note: what was searched and what came out.
        stream_charts: as ``charts``, under "The stream".
        frames: annotated frames of the stream.
        stages: wall time by stage.
        facts: pairs of name and value on machine, seed and versions.
    """

    title: str
    summary: tuple[str, ...]
    rows: tuple[Row, ...]
    table_notes: tuple[str, ...]
    checks: tuple[Check, ...]
    charts: tuple[tuple[str, str], ...]
    rankings: tuple[Ranking, ...]
    ranking_note: str
    stream_note: str
    stream_charts: tuple[tuple[str, str], ...]
    frames: tuple[Picture, ...]
    stages: tuple[StageTime, ...]
    facts: tuple[tuple[str, str], ...]
