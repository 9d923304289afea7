"""Gathers the sub-commands."""

from __future__ import annotations

import typer

from personsearch.cli import (
    bench,
    boxes,
    calibrate,
    data,
    demo,
    diagnose,
    distill,
    doctor,
    engine,
    evaluate,
    export,
    parity,
    stream,
    table,
    train,
)

app = typer.Typer(
    name="personsearch",
    help="Person search that reaches the camera: train, distil, export, stream, measure.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.add_typer(data.app, name="data")
app.command("train")(train.train)
app.command("distill")(distill.distill)
app.command("table")(table.table)
app.command("boxes")(boxes.boxes)
app.command("evaluate")(evaluate.evaluate)
app.command("diagnose")(diagnose.diagnose)
app.command("calibrate")(calibrate.calibrate)
app.command("export")(export.export)
app.command("parity")(parity.parity)
app.add_typer(engine.app, name="engine")
app.command("stream")(stream.stream)
app.add_typer(bench.app, name="bench")
app.command("doctor")(doctor.doctor)
