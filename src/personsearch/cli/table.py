"""``personsearch table``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personsearch.cli import require
from personsearch.cli.network_input import (
    Mean,
    Order,
    Scale,
    Size,
    Std,
    Threads,
    pixel_input,
)
from personsearch.core.errors import InputError
from personsearch.core.progress import StageProgress

if TYPE_CHECKING:
    from personsearch.core.lookup_table_file import LookupTableFile
    from personsearch.distill.lookup_table import ModelEmbedder
    from personsearch.distill.sources.crop_embedder import CropEmbedder
    from personsearch.distill.sources.identity_table import Separation

MAX_NAMED = 10
"""Identities that a message names."""


def table(
    network: Annotated[
        Path, typer.Argument(help="Re-ID network: .onnx, or OpenVINO's .xml; or a checkpoint (.pt) of this project.")
    ],
    dataset: Annotated[Path, typer.Argument(help="Data set: folder or specification.")],
    out: Annotated[Path, typer.Option(help="File (.npz) to write.")],
    *,
    split: Annotated[str, typer.Option(help="Split whose identities are averaged.")] = "train",
    hold_out: Annotated[
        float, typer.Option(min=0, max=0.99, help="As `data.hold_out` of the recipe that the table is for.")
    ] = 0.0,
    hold_out_seed: Annotated[int, typer.Option(min=0, help="As its `data.hold_out_seed`.")] = 0,
    images: Annotated[
        int | None, typer.Option(min=1, help="Use so many frames, the first ones; all where absent.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Input of a known network: osnet or retail-0288.")] = None,
    input_: Size = None,
    order: Order = None,
    scale: Scale = None,
    mean: Mean = None,
    std: Std = None,
    output: Annotated[str | None, typer.Option(help="Output that is the embedding, where there are several.")] = None,
    centre: Annotated[
        bool, typer.Option("--centre", help="Subtract the mean of all crops first: rows then differ more.")
    ] = False,
    min_height: Annotated[float, typer.Option(min=0, help="Leave out boxes of fewer pixels in height.")] = 0.0,
    min_crops: Annotated[int, typer.Option(min=1, help="Name identities with fewer crops than that.")] = 2,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Make a look-up table of a re-ID network's embeddings, one row an identity, for a student to learn from.

    Every true box with an identity is described; the mean of a person's vectors, scaled to length 1, is their row. How
    well the rows tell the crops apart stands beside a colour histogram's figure, which a network that is fed rightly
    leaves far behind.

    Examples:

    \b
      personsearch table osnet.onnx data/prw --preset osnet --out osnet-prw.npz
      personsearch table mine.onnx data/prw --order rgb --scale 255 --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5 --out mine.npz
      personsearch table runs/hdl-r50-prw/checkpoint.pt data/prw --out hdl-prw.npz
    """
    require("torch", "train", "the distillation stage")
    from personsearch.benchmarks.histogram import HistogramEmbedder
    from personsearch.core.lookup_table_file import LookupTableFile, write_lookup_table
    from personsearch.data import open_dataset, person_names_of
    from personsearch.data.hold_out import RemainingImages
    from personsearch.data.hold_out import hold_out as choose
    from personsearch.distill.lookup_table import open_embedder
    from personsearch.distill.sources.crop_embedder import REID_PRESETS, CropEmbedder
    from personsearch.distill.sources.identity_table import (
        average_identities,
        centred,
        embed_people,
        measure_separation,
    )
    from personsearch.distill.sources.network import open_network

    if out.suffix != ".npz":
        raise InputError(f"the file's name ends in `{out.suffix}`", where=str(out), expected=".npz")
    if network.suffix == ".pt":
        _refuse_input_options(network, preset, input_, order, scale, mean, std, output)
        embedder: CropEmbedder | ModelEmbedder = open_embedder(network)
    else:
        pixels = pixel_input(REID_PRESETS, preset, input_, order, scale, mean, std)
        embedder = CropEmbedder(open_network(network, threads), pixels, output)
    opened = open_dataset(dataset, split)
    if hold_out:
        opened = RemainingImages(opened, choose(opened, hold_out, hold_out_seed))
    numbers = range(len(opened))[:images]
    with StageProgress("describing people", len(numbers)) as progress:
        crops = embed_people(
            {"table": embedder, "histogram": HistogramEmbedder()},
            opened,
            numbers,
            min_height_px=min_height,
            on_image=progress.advance,
        )
    if centre:
        crops["table"] = centred(crops["table"])
    rows, counts = average_identities(crops["table"])
    figures = {name: measure_separation(found) for name, found in crops.items()}
    used = f"{len(numbers)} of {len(opened)} images of {opened.name}, split {split}"
    used += f" without {hold_out:g} held out (seed {hold_out_seed})" if hold_out else ""
    used += ", centred" if centre else ""
    content = LookupTableFile(person_names_of(opened), rows, counts, f"{embedder.source}; {used}")
    write_lookup_table(out, content)
    few = [row for row, count in enumerate(counts.tolist()) if 0 < count < min_crops]
    typer.echo(
        _as_json(out, content, few, figures) if as_json else _as_text(out, content, few, figures, min_crops, used)
    )


def _refuse_input_options(network: Path, *options: object) -> None:
    if any(option is not None for option in options):
        raise InputError(
            "a checkpoint says itself how pixels become its input, and has one embedding",
            where=str(network),
            expected="no --preset, --input, --order, --scale, --mean, --std or --output",
        )


def _as_json(out: Path, content: LookupTableFile, few: list[int], figures: dict[str, Separation]) -> str:
    from dataclasses import asdict

    return json.dumps(
        {
            "out": str(out),
            "identities": len(content.table),
            "embedding_dim": content.table.shape[1],
            "crops": int(content.counts.sum()),
            "without_crop": [_name(content, row) for row in content.unseen],
            "few_crops": [_name(content, row) for row in few],
            "source": content.source,
            "separation": {name: {**asdict(one), "chance": one.chance} for name, one in figures.items()},
        },
        indent=2,
    )


def _as_text(
    out: Path, content: LookupTableFile, few: list[int], figures: dict[str, Separation], min_crops: int, used: str
) -> str:
    identities, width = content.table.shape
    lines = [f"{out}: {identities} identities x {width}, from {int(content.counts.sum())} crops; {used}"]
    for what, rows in (("without a crop: their rows are zero", content.unseen), (f"with less than {min_crops}", few)):
        if rows:
            named = ", ".join(_name(content, row) for row in rows[:MAX_NAMED])
            lines.append(f"  {len(rows)} identities {what} ({named}{', ...' if len(rows) > MAX_NAMED else ''})")
    lines.append(f"crop to its own row without the crop itself; chance {figures['table'].chance:.2%}")
    lines.append(f"  {'':<16}  rank-1  without its camera  cosine to own row  to the best other  between rows")
    for name, one in figures.items():
        across = "none" if one.cross_camera_rank_1 is None else f"{one.cross_camera_rank_1:.1%}"
        title = "this table" if name == "table" else "colour histogram"
        lines.append(
            f"  {title:<16}  {one.rank_1:6.1%}  {across:>18}  {one.own_cosine:17.3f}  {one.other_cosine:17.3f}"
            f"  {one.row_cosine:12.3f}"
        )
    if figures["table"].rank_1 <= figures["histogram"].rank_1:
        lines.append("warning: no better than colours; are the colour order and the numbers the network's own?")
    return "\n".join(lines)


def _name(content: LookupTableFile, row: int) -> str:
    return content.names[row] if content.names else str(row)
