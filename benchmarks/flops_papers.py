"""Every network at its paper's size, counted by one convention, beside the figure that the paper prints.

What cannot agree has a note that says why. Printed figures are quoted as printed, in the paper's unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files

from pydantic import Field

from personsearch.benchmarks.flops import FlopsResult, count_model, train_recipe
from personsearch.benchmarks.pair_cost import count_pair
from personsearch.core.progress import StageProgress
from personsearch.core.recipe import StrictModel
from personsearch.models.build import build_model, without_start_weights

HDL = "HDL, table 2"
HDL_PRW = "HDL, table 3"
EIGHTFOLD = (
    "no one convention gives this row and the student's: it is 8 times a MAC count without attention (0.5 % off), and "
    "PRW's is this times 3.24, the ratio of the pixels"
)
OTHERS_SIZE = (
    "printed by HDL at its own size, with 7 x 7 crops; here the network's own 14 x 14, which triples a person; its own "
    "paper prints no operations"
)
STUDENT = (
    "near the MAC count (not FLOPs): the scene 3 % under it, the person 9 % over (5 % with the identity layer, which "
    "serves training alone)"
)
NOTHING = "its paper prints no operations"


@dataclass(frozen=True)
class PaperRow:
    """A network of a recipe, maybe changed, and what is printed of it.

    Attributes:
        name: of the row.
        recipe: shipped, ``folder/name``.
        attention: in place of the recipe's; none to keep that.
        input_wh: in place of the recipe's; none to keep that.
        printed_scene: in G, as printed; none where nothing is.
        printed_person: in M, as printed.
        printed_in: the paper and table.
        note: why figures cannot agree, or what a printed one counts.
    """

    name: str
    recipe: str
    attention: str | None = None
    input_wh: tuple[int, int] | None = None
    printed_scene: float | None = None
    printed_person: float | None = None
    printed_in: str = ""
    note: str = NOTHING


ROWS = (
    PaperRow("HDL teacher", "teacher/hdl_r50_cuhk", None, None, 427.5, 2100, HDL, EIGHTFOLD),
    PaperRow("HDL teacher, no attention", "teacher/hdl_r50_cuhk", "none", None, None, None, "", "not printed apart"),
    PaperRow("HDL student", "student/hdl_cuhk", None, None, 37.5, 76.4, HDL, STUDENT),
    PaperRow("HDL student, no attention", "student/hdl_cuhk", "none", None, None, None, "", "not printed apart"),
    PaperRow("HDL teacher, PRW", "teacher/hdl_r50_prw", None, None, 1381.6, 2100, HDL_PRW, EIGHTFOLD),
    PaperRow("HDL student, PRW", "student/hdl_prw", None, None, 121.4, 76.4, HDL_PRW, STUDENT),
    PaperRow("OIM R50 at HDL's size", "teacher/oim_r50_cuhk", None, (800, 800), 410.7, 2000, HDL, OTHERS_SIZE),
    PaperRow("OIM R50", "teacher/oim_r50_cuhk"),
    PaperRow("OIM R18", "teacher/oim_r18_cuhk", note="KD: '~46 % of Resnet50 parameters', which is of ImageNet models"),
    PaperRow("Faster R-CNN R50", "teacher/det_r50_cuhk"),
    PaperRow("Faster R-CNN R18", "teacher/det_r18_cuhk"),
    PaperRow("NAE", "teacher/nae_r50_cuhk"),
    PaperRow("SeqNet", "teacher/seqnet_r50_cuhk"),
    PaperRow("QEEPS R50, without a query", "teacher/qeeps_r50_cuhk", note=f"{NOTHING}; with a query see the pair"),
    PaperRow("QEEPS R18, without a query", "teacher/qeeps_r18_cuhk", note=f"{NOTHING}; with a query see the pair"),
    *(
        PaperRow(f"family {size}", f"student/family/{size}", note="of this project; attention light, two passes")
        for size in ("tiny", "small", "medium", "base")
    ),
)


class PaperCount(StrictModel):
    """One network, counted, and what is printed of it."""

    name: str
    recipe: str
    counted: FlopsResult
    pair_macs: int | None = Field(default=None, description="of one (query, frame) pair, of a query-guided network")
    printed_scene_giga: float | None
    printed_person_mega: float | None
    printed_in: str
    note: str

    @property
    def scene_ratio(self) -> float | None:
        """What is printed over the multiply-accumulates counted."""
        printed = self.printed_scene_giga
        return None if printed is None else printed * 1e9 / self.counted.scene_macs

    @property
    def person_ratio(self) -> float | None:
        """As `scene_ratio`, of a person."""
        printed = self.printed_person_mega
        return None if printed is None else printed * 1e6 / self.counted.person_macs


def count_papers(rows: tuple[PaperRow, ...] = ROWS) -> list[PaperCount]:
    """Counts every row by tracing; a few seconds each for a ResNet-50."""
    counts = []
    with StageProgress("counting", len(rows)) as progress:
        for row in rows:
            counts.append(_count(row))
            progress.advance()
    return counts


def papers_table(counts: list[PaperCount]) -> str:
    """The table as Markdown, the notes under it."""
    titles = (
        "", "input", "scene GMAC", "GFLOP", "K", "person MMAC", "MFLOP", "selection GMAC", "weights M", "peak MB",
        "moved MB", "printed scene G", "printed person M", "printed / MAC",
    )  # fmt: skip
    lines = ["| " + " | ".join(titles) + " |", "|---|" + "---:|" * (len(titles) - 1)]
    notes: dict[str, int] = {}
    for count in counts:
        one = count.counted
        mark = f" [{notes.setdefault(count.note, len(notes) + 1)}]" if count.note else ""
        ratios = [f"{ratio:.2f}" for ratio in (count.scene_ratio, count.person_ratio) if ratio is not None]
        cells = (
            count.name + mark, f"{one.input_wh[0]}x{one.input_wh[1]}", f"{one.scene_macs / 1e9:.2f}",
            f"{2 * one.scene_macs / 1e9:.2f}", str(one.persons), f"{one.person_macs / 1e6:.2f}",
            f"{2 * one.person_macs / 1e6:.2f}", f"{one.selection_macs / 1e9:.2f}", f"{one.parameters / 1e6:.2f}",
            f"{one.peak_bytes / 1e6:.1f}", f"{one.traffic_bytes / 1e6:.0f}", _or_dash(count.printed_scene_giga),
            _or_dash(count.printed_person_mega), ", ".join(ratios) or "–",
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *(f"{number}. {note}." for note, number in notes.items())]
    pairs = [f"{count.name.partition(',')[0]} {count.pair_macs / 1e9:.1f}" for count in counts if count.pair_macs]
    if pairs:
        lines += ["", f"One pair of query and frame, GMAC: {', '.join(pairs)}."]
    return "\n".join(lines)


def _count(row: PaperRow) -> PaperCount:
    with as_file(files("personsearch.recipes").joinpath(*f"{row.recipe}.yaml".split("/"))) as path:
        recipe = train_recipe(path)
    model_recipe, preprocess = without_start_weights(recipe.model), recipe.preprocess
    if row.attention is not None:
        model_recipe = model_recipe.model_copy(update={"attention": row.attention})
    if row.input_wh is not None:
        preprocess = preprocess.model_copy(update={"input_wh": row.input_wh})
    model = build_model(model_recipe, preprocess, person_count=1)
    pair = count_pair(model)
    return PaperCount(
        name=row.name,
        recipe=row.recipe,
        counted=count_model(model, subject=row.name),
        pair_macs=None if pair is None else pair.macs,
        printed_scene_giga=row.printed_scene,
        printed_person_mega=row.printed_person,
        printed_in=row.printed_in,
        note=row.note,
    )


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"
