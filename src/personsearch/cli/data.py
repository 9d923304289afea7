"""``personsearch data``: make data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from personsearch.cli.data_check import check
from personsearch.cli.data_convert import convert
from personsearch.cli.data_label import label
from personsearch.cli.data_show import show
from personsearch.core.errors import InputError
from personsearch.core.progress import StageProgress

app = typer.Typer(help="Data set folders.", no_args_is_help=True)
app.command()(check)
app.command()(convert)
app.command()(label)
app.command()(show)


@app.callback()
def data() -> None:
    """Data set folders."""


@app.command()
def synthesize(
    out: Annotated[Path, typer.Argument(help="folder to write; it must not exist, or be a generated one")],
    seed: Annotated[int, typer.Option(min=0, help="same seed, same bytes")] = 0,
    scale: Annotated[float, typer.Option(help="times the default number of frames and identities")] = 1.0,
) -> None:
    """Generate a person-search data set with a train split, a test split of other people and cameras, and a video.

    Example: personsearch data synthesize demo/data --seed 1 --scale 0.5
    """
    from personsearch.data.synthetic import SyntheticSettings, generate
    from personsearch.runtime.machine import usable_cores

    if not 0.02 <= scale <= 50:
        raise InputError(f"scale is {scale}", where="--scale", expected="0.02 to 50")
    _check_target(out)
    settings = SyntheticSettings(seed=seed).scaled(scale)
    total = settings.train_frames + settings.test_frames + settings.video_frames
    with StageProgress("generating frames", total) as bar:
        generate(out, settings, lambda done, total: bar.advance_to(done), processes=usable_cores())
    typer.echo(f"{out}: {settings.train_frames} training frames, {settings.test_frames} test frames, a video")


def _check_target(out: Path) -> None:
    """Refuses to replace what is not a generated data set: the folder is swapped as a whole."""
    import json

    if not out.exists():
        return
    description = out / "dataset.json"
    try:
        generated = bool(json.loads(description.read_text(encoding="utf-8")).get("generator"))
    except (OSError, ValueError, AttributeError):
        generated = False
    if not generated and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(
            "exists and is not a generated data set",
            where=str(out),
            expected="a new folder",
            remedy="name another one, or remove it",
        )
