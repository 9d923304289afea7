"""Which parts of a network int8 hurts, measured, and which of them have to stay float.

Each block is quantised alone, everything else float: what is lost then is that block's own doing. The other sweep, each
block float in turn and the rest int8, asks a network that is damaged already: where two blocks each spoil the same
embeddings, returning either one to float shows next to nothing, and both look harmless. What blocks do together is
measured afterwards: from the whole network in int8, blocks return to float, the most harmful first, each step measured
again, until int8 costs no more than it may.

The measure is the search's mean average precision on labelled images that are never of a test split; the table also
has detection's, and, because the first moves in steps of a query, the mean cosine to the float embeddings of the same
boxes, which breaks ties.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from personsearch.core.detections import FloatArray
from personsearch.core.errors import InputError
from personsearch.core.export_recipes import ExportRecipe, SensitivityRecipe
from personsearch.core.preprocess import Frame
from personsearch.export.end_figures import LabelledImages, measure_end_figures
from personsearch.export.graphs import OnnxGraphs
from personsearch.export.lowering import FloatGraphs, lower
from personsearch.export.quantise import Calibration, convolutions
from personsearch.export.rows import Graphs

BLOCK_PARTS = 3
"""Parts of a weight's name that name its block: ``trunk.stages.2`` of ``trunk.stages.2.0.0.weight``."""
FEWEST_QUERIES = 10


@dataclass(frozen=True)
class Figures:
    """What one version of the network reaches; shares in [0, 1].

    Attributes:
        search_map: none where cosines are the measure.
        detection_ap: likewise.
        cosine: mean, to the float graph's embeddings of the same boxes.
    """

    search_map: float | None
    detection_ap: float | None
    cosine: float


@dataclass(frozen=True)
class Row:
    """One block, quantised alone.

    Attributes:
        block: its name.
        pattern: keeps it float, see `QuantiseRecipe.float_layers`.
        convolutions: in it.
        drop: points of the measure that it costs.
        figures: what is left.
    """

    block: str
    pattern: str
    convolutions: int
    drop: float
    figures: Figures


@dataclass(frozen=True)
class Sensitivity:
    """A sweep and what follows from it.

    Attributes:
        measure: see `SensitivityRecipe`.
        measured_on: in words.
        reference: the float32 graphs.
        all_int8: everything quantised but what the recipe keeps float.
        rows: most harmful first.
        float_layers: patterns to be kept float: the recipe's and those that were chosen.
        chosen: what is reached with them.
        reached: whether int8 then costs no more than it may.
    """

    measure: str
    measured_on: str
    reference: Figures
    all_int8: Figures
    rows: tuple[Row, ...]
    float_layers: tuple[str, ...]
    chosen: Figures
    reached: bool

    def plain(self) -> dict[str, Any]:
        """For the manifest and its card."""
        return {
            "measure": self.measure,
            "measured_on": self.measured_on,
            "float32": asdict(self.reference),
            "all_int8": asdict(self.all_int8),
            "points_that_a_block_alone_costs": {row.block: row.drop for row in self.rows},
            "float_layers": list(self.float_layers),
            "with_them": asdict(self.chosen),
            "reached": self.reached,
        }


def blocks_of(weights: Sequence[str], by: str) -> dict[str, tuple[str, ...]]:
    """Weights by block, in the order of the network; by layer each is a block of its own."""
    blocks: dict[str, tuple[str, ...]] = {}
    for weight in weights:
        name = weight.removesuffix(".weight")
        block = ".".join(name.split(".")[:BLOCK_PARTS]) if by == "block" else name
        blocks[block] = (*blocks.get(block, ()), weight)
    return blocks


def measure_sensitivity(
    graphs: FloatGraphs,
    recipe: ExportRecipe,
    calibration: Calibration,
    score_threshold: float,
    *,
    labelled: LabelledImages | None,
    frames: Sequence[Frame],
    advance: Callable[[str], object] = lambda note: None,
) -> Sensitivity:
    """Quantises each block alone, then chooses what stays float.

    Args:
        graphs: float32, with a query graph.
        recipe: of the export; its ``quantise.sensitivity`` says how.
        calibration: of these graphs.
        score_threshold: detections below it do not count.
        labelled: images with identities; needed unless cosines are the measure.
        frames: letterboxed; cosines are measured on the people that the float graph finds in them.
        advance: called after each version of the network that was measured, with its name.

    Raises:
        InputError: a detector, which embeds nobody, or no labels where search figures are wanted.
    """
    settings = recipe.quantise.sensitivity
    if graphs.query is None:
        raise InputError(
            "a detector embeds nobody, and has no search to measure", remedy="leave --sensitivity out, name layers"
        )
    _check_labels(settings, labelled)
    if recipe.int8_flavour is None:
        raise ValueError(f"precision {recipe.precision} rounds nothing to int8")
    base = recipe.quantise.patterns(recipe.int8_flavour)
    search = onnx.load(str(graphs.paths[0]), load_external_data=False)
    weights = [item.weight for item in convolutions(search, base)]
    blocks = blocks_of(weights, settings.by)
    patterns = {block: f".{block}.*" if settings.by == "block" else f".{block}.weight" for block in blocks}
    probe = _Probe(graphs, recipe, calibration, score_threshold, labelled, frames)
    reference, whole = probe.float_figures(), probe.figures(base)
    advance("everything in int8")
    rows = []
    for block, own in blocks.items():
        alone = probe.figures((*base, *(f".{weight}" for weight in weights if weight not in own)))
        drop = _drop(settings, reference, alone)
        rows.append(Row(block, patterns[block], len(own), round(drop, 3), alone))
        advance(block)
    rows.sort(key=lambda row: (-row.drop, row.figures.cosine))
    kept, chosen = list(base), whole
    for row in rows[:-1]:  # something must be left to quantise
        if _drop(settings, reference, chosen) <= settings.max_drop:
            break
        kept.append(row.pattern)
        chosen = probe.figures(tuple(kept))
        advance(f"{row.block} float")
    return Sensitivity(
        measure=settings.measure,
        measured_on=(
            f"{len(frames)} frames without labels"
            if labelled is None or settings.measure == "cosine"
            else labelled.description
        ),
        reference=reference,
        all_int8=whole,
        rows=tuple(rows),
        float_layers=tuple(kept),
        chosen=chosen,
        reached=_drop(settings, reference, chosen) <= settings.max_drop,
    )


def sensitivity_lines(found: Sensitivity) -> list[str]:
    """The sweep as a table, and what follows from it."""
    head = "search mAP" if found.measure == "search_map" else "cosine"
    lines = [
        f"sensitivity to int8, each block quantised alone ({found.measured_on})",
        f"  {'block':<34} {'convs':>5} {'costs':>8} {'search mAP':>11} {'det. AP':>9} {'cosine':>9}",
        _line("everything float", "", "", found.reference),
        *(_line(row.block, row.convolutions, f"{row.drop:+.2f}", row.figures) for row in found.rows),
        _line("everything int8", "", "", found.all_int8),
        _line("as chosen", "", "", found.chosen),
    ]
    added = [row.pattern for row in found.rows if row.pattern in found.float_layers]
    words = f"stay float for it: {' '.join(added)}" if added else "no block has to stay float"
    lines.append(f"  {words}" + ("" if found.reached else f"; points of {head} that int8 may cost are still exceeded"))
    return lines


class _Probe:
    """Measures versions of one network, written into folders that are gone afterwards."""

    def __init__(
        self,
        graphs: FloatGraphs,
        recipe: ExportRecipe,
        calibration: Calibration,
        score_threshold: float,
        labelled: LabelledImages | None,
        frames: Sequence[Frame],
    ) -> None:
        self._graphs, self._calibration, self._threshold = graphs, calibration, score_threshold
        self._recipe = recipe.model_copy(update={"batches": (1,)})
        wanted = recipe.quantise.sensitivity.measure == "search_map"
        self._labelled = labelled if wanted else None
        self._float = OnnxGraphs(graphs.folder)
        self._asked = [(frame, boxes) for frame in frames for boxes in self._people(frame)]
        self._expected = [self._float.query(frame, boxes) for frame, boxes in self._asked]

    def float_figures(self) -> Figures:
        """Those of the float32 graphs."""
        return self._measure(self._float)

    def figures(self, float_layers: tuple[str, ...]) -> Figures:
        """Those with everything in int8 but what the patterns name."""
        with tempfile.TemporaryDirectory() as folder:
            lower(self._graphs, self._recipe, Path(folder), calibration=self._calibration, float_layers=float_layers)
            return self._measure(OnnxGraphs(Path(folder)))

    def _measure(self, side: Graphs) -> Figures:
        cosines = [
            (expected * side.query(frame, boxes)).sum(axis=1)
            for (frame, boxes), expected in zip(self._asked, self._expected, strict=True)
        ]
        cosine = float(np.mean(np.concatenate(cosines))) if cosines else 1.0
        if self._labelled is None:
            return Figures(None, None, round(cosine, 6))
        (end,) = measure_end_figures(
            [side], self._labelled, score_threshold=self._threshold, query_boxes=self._recipe.query_boxes
        )
        return Figures(
            None if end.search_map is None else round(end.search_map, 4), round(end.detection_ap, 4), round(cosine, 6)
        )

    def _people(self, frame: Frame) -> list[FloatArray]:
        """The first Q boxes that the float graph finds, padded to Q; none in an empty frame."""
        found = self._float.search(frame).boxes
        sides = (found[:, 2:] - found[:, :2]).min(axis=1)
        boxes = found[sides >= 1][: self._recipe.query_boxes]
        if not len(boxes):
            return []
        padding = np.repeat(boxes[-1:], self._recipe.query_boxes - len(boxes), axis=0)
        return [np.concatenate([boxes, padding])]


def _drop(settings: SensitivityRecipe, reference: Figures, found: Figures) -> float:
    """Points of the measure."""
    before, after = (
        (reference.cosine, found.cosine) if settings.measure == "cosine" else (reference.search_map, found.search_map)
    )
    return 100 * ((before or 0.0) - (after or 0.0))


def _check_labels(settings: SensitivityRecipe, labelled: LabelledImages | None) -> None:
    if settings.measure == "cosine":
        return
    queries = 0 if labelled is None else len(labelled.dataset.queries)
    if queries < FEWEST_QUERIES:
        raise InputError(
            f"the sensitivity sweep measures search mAP, and the calibration frames ask for {queries} people",
            where="--calibration",
            expected=f"a data set whose training split shows at least {FEWEST_QUERIES} people more than once",
            remedy="or ask for agreement with the float embeddings: quantise.sensitivity.measure=cosine",
        )


def _line(block: str, count: object, drop: str, figures: Figures) -> str:
    shown = ["-" if value is None else f"{100 * value:.2f}" for value in (figures.search_map, figures.detection_ap)]
    return f"  {block:<34} {count!s:>5} {drop:>8} {shown[0]:>11} {shown[1]:>9} {figures.cosine:>9.5f}"
