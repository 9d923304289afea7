"""``personsearch data show``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personsearch.core.errors import InputError

if TYPE_CHECKING:
    from personsearch.data.sample import Frame

_SUFFIXES = (".png", ".jpg", ".jpeg")
_MAX_HEIGHT_PX = 16_000


def show(
    root: Annotated[Path, typer.Argument(metavar="DIR", help="Data set: folder, .json, .yaml or .zip.")],
    out: Annotated[Path, typer.Option(help="Picture to write (.png, .jpg), or a folder for one picture a page.")],
    split: Annotated[str | None, typer.Option(help="Split of the data set; its first if absent.")] = None,
    frames: Annotated[int, typer.Option(min=0, help="Frames shown with boxes and ids.")] = 12,
    identities: Annotated[int, typer.Option(min=0, help="Identities shown with their crops by camera.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice; the same seed shows the same.")] = 0,
) -> None:
    """Write a contact sheet: frames with boxes and ids, and identities across cameras, for a person to look at.

    Example: personsearch data show data/prw --split test --out prw.png

    Exit code: 1 when some of the images shown cannot be read.
    """
    from personsearch.data.contact_sheet import contact_sheet, joined
    from personsearch.data.opening import format_of

    one_file = out.suffix.lower() in _SUFFIXES and not out.is_dir()
    if not one_file and (out.suffix and not out.is_dir()):
        raise InputError(f"suffix is {out.suffix}", where=str(out), expected=f"{', '.join(_SUFFIXES)}, or a folder")
    form = format_of(root)
    name = split if split is not None else next(iter(form.splits(root)), "")
    dataset = form.open(root, name, None)
    title = f"{dataset.name}, split {name}"
    sheet = contact_sheet(dataset, title=title, frames=frames, identities=identities, seed=seed)
    if one_file:
        picture = joined(sheet)
        if picture.shape[0] > _MAX_HEIGHT_PX:
            raise InputError(
                f"the sheet is {picture.shape[0]} pixels high",
                where="--out",
                expected=f"at most {_MAX_HEIGHT_PX} in one picture",
                remedy="name a folder, or show less",
            )
        _write(out, picture)
        typer.echo(f"{out}: {title}")
    else:
        for page in sheet.pages:
            _write(out / f"{page.name}.png", page.picture)
            typer.echo(f"{out / page.name}.png: {title}")
    for line in sheet.unreadable:
        typer.echo(f"not shown: {line}", err=True)
    if sheet.unreadable:
        raise typer.Exit(1)


def _write(path: Path, picture: Frame) -> None:
    import cv2

    from personsearch.core.files import atomic_file

    done, encoded = cv2.imencode(path.suffix.lower(), picture)
    if not done:
        raise InputError("the picture cannot be encoded", where=str(path))
    with atomic_file(path) as part:
        part.write_bytes(encoded.tobytes())
