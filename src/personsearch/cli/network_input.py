"""Options that say how pixels become the input of somebody else's network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from personsearch.core.errors import InputError
from personsearch.core.recipe import validate

if TYPE_CHECKING:
    from personsearch.distill.sources.pixels import PixelInput

Size = Annotated[str | None, typer.Option("--input", help="WxH of the input in pixels; the graph's own if absent.")]
Order = Annotated[str | None, typer.Option(help="Colour channels: rgb or bgr.")]
Scale = Annotated[float | None, typer.Option(help="Pixels of 0..255 are divided by it first: 255, or 1 for none.")]
Mean = Annotated[str | None, typer.Option(help="Subtracted after that, a number a channel: 0.485,0.456,0.406.")]
Std = Annotated[str | None, typer.Option(help="Divided by at last, a number a channel: 0.229,0.224,0.225.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads of the network; the library's choice if absent.")]


def pixel_input(
    presets: Mapping[str, PixelInput],
    preset: str | None,
    input_wh: str | None,
    order: str | None,
    scale: float | None,
    mean: str | None,
    std: str | None,
) -> PixelInput:
    """A preset changed by options, or the options alone.

    Raises:
        InputError: an unknown preset, an option that is missing without one, or a value that cannot be.
    """
    from personsearch.distill.sources.pixels import PixelInput

    content: dict[str, Any] = {}
    if preset is not None:
        content = of_preset(presets, preset).model_dump()
    stated = {
        "order": order,
        "scale": scale,
        "mean": None if mean is None else numbers(mean, "--mean"),
        "std": None if std is None else numbers(std, "--std"),
    }
    content |= {name: value for name, value in stated.items() if value is not None}
    missing = [f"--{name}" for name in stated if name not in content]
    if missing:
        raise InputError(
            f"nothing says {', '.join(missing)}",
            where="network's input",
            expected=f"`--preset` ({', '.join(presets)}), or each of --order, --scale, --mean and --std",
            remedy="its authors' code says how it was trained",
        )
    if input_wh is not None:
        width, cross, height = input_wh.lower().partition("x")
        if not (cross and width.isdecimal() and height.isdecimal()):
            raise InputError(f"--input is `{input_wh}`", expected="WIDTHxHEIGHT in pixels, such as 128x256")
        content["input_wh"] = (int(width), int(height))
    return validate(PixelInput, content, where="network's input")


def of_preset(presets: Mapping[str, Any], preset: str) -> Any:
    """The preset of a name; `InputError` names all where there is none."""
    if preset not in presets:
        raise InputError(f"--preset is `{preset}`", expected=f"one of {', '.join(presets)}")
    return presets[preset]


def numbers(text: str, option: str) -> tuple[float, ...]:
    """Three numbers between commas, one a channel."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != 3:
        raise InputError(f"{option} is `{text}`", expected="three numbers between commas, in the order of the channels")
    return values
