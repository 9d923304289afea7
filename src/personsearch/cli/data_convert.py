"""``personsearch data convert``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from personsearch.core.errors import InputError
from personsearch.core.progress import StageProgress

if TYPE_CHECKING:
    from personsearch.core.preprocess import Frame
    from personsearch.data.index import LabelIndex
    from personsearch.data.video_frames import ImageEncoding


def convert(
    source: Annotated[Path, typer.Argument(help="data set in any format, or the labels of a video")],
    out: Annotated[Path, typer.Argument(help="folder to write; new, or empty")],
    *,
    split: Annotated[list[str] | None, typer.Option(help="split to convert; repeat for more; all where absent")] = None,
    to: Annotated[
        Literal["coco", "folder", "mot"],
        typer.Option(
            help="coco: annotations/SPLIT.json with person_id; folder: the same with dataset.json; "
            "mot: a sequence for each camera, without search protocols and terms"
        ),
    ] = "coco",
    images: Annotated[
        Literal["link", "copy", "none"],
        typer.Option(help="link: hard links, symbolic ones across file systems; none: labels alone"),
    ] = "link",
    video: Annotated[
        Path | None, typer.Option(help="the video that SOURCE labels: its labelled frames become the images")
    ] = None,
    first_frame: Annotated[
        int | None,
        typer.Option(
            min=0, help="number that the labels give to the video's first frame; 1 for MOT and 0 else where absent"
        ),
    ] = None,
    png: Annotated[bool, typer.Option("--png", help="write frames of a video or generator as PNG")] = False,
    quality: Annotated[int, typer.Option(min=1, max=100, help="JPEG quality of frames that are written")] = 95,
    as_json: Annotated[bool, typer.Option("--json", help="print the counts as JSON")] = False,
) -> None:
    """Convert a data set to COCO, to this project's folder or to MOT; or labels and their video to images.

    COCO and back loses nothing: boxes, identities and their names, cameras, frame numbers, sizes, terms, protocols.

    Examples:

    \b
      personsearch data convert data/prw prw-coco --split train --split test
      personsearch data convert task_mot.zip street --video street.mp4 --to folder
    """
    from personsearch.data.conversion import check_target
    from personsearch.data.conversion import convert as convert_images
    from personsearch.data.video_frames import ImageEncoding

    check_target(out)
    encoding = ImageEncoding(".png" if png else ".jpg", quality)
    if video is not None:
        written = _with_video(source, out, video, split or [], first_frame, to, encoding)
    else:
        if first_frame is not None:
            raise InputError("needs a video", where="--first-frame", expected="`--video` beside it")
        with StageProgress("placing images", None) as bar:
            written = convert_images(
                source,
                out,
                splits=split or (),
                to=to,
                images=images,
                encoding=encoding,
                on_image=lambda total: bar.advance(note=f"of {total}"),
            )
    typer.echo(_as_json(out, written) if as_json else _as_text(out, written))


def _with_video(
    source: Path,
    out: Path,
    video: Path,
    splits: list[str],
    first_frame: int | None,
    to: Literal["coco", "folder", "mot"],
    encoding: ImageEncoding,
) -> dict[str, LabelIndex]:
    from personsearch.data.conversion import convert_video
    from personsearch.data.motchallenge import is_mot
    from personsearch.runtime.video_source import FileSource

    if len(splits) > 1:
        raise InputError(f"names {len(splits)} splits", where="--split", expected="one for a video")
    number = first_frame if first_frame is not None else int(source.exists() and is_mot(source))
    reader = FileSource(video, rate_hz=None, keep_going=False)

    def frames() -> Iterator[Frame]:
        while (frame := reader.read()) is not None:
            if reader.broken_count:
                raise InputError(
                    f"a frame before number {frame.index + 1} cannot be decoded",
                    where=str(video),
                    expected="every frame, as labels count them",
                    remedy="copy it again, or encode it anew",
                )
            yield frame.image

    try:
        with StageProgress("decoding frames", reader.frame_count) as bar:
            return convert_video(
                source,
                frames(),
                out,
                video=str(video),
                first_frame=number,
                split=splits[0] if splits else None,
                to=to,
                encoding=encoding,
                on_frame=bar.advance,
            )
    finally:
        reader.close()


def _as_json(out: Path, written: dict[str, LabelIndex]) -> str:
    from dataclasses import asdict

    splits = {
        name: {"counts": index.counts(), "problems": [asdict(problem) for problem in index.problems]}
        for name, index in written.items()
    }
    return json.dumps({"out": str(out), "splits": splits}, indent=2)


def _as_text(out: Path, written: dict[str, LabelIndex]) -> str:
    lines = []
    for name, index in written.items():
        counts = index.counts()
        queries = [f"{key.removeprefix('queries.')} {count}" for key, count in counts.items() if "." in key]
        lines.append(
            f"{out}, split {name}: {counts['images']} images, {counts['boxes']} people ({counts['labelled']} with one "
            f"of {counts['identities']} identities), {counts['ignore']} regions to ignore, {counts['cameras']} cameras"
            + (f"; queries: {', '.join(queries)}" if queries else "")
        )
        lines += [
            f"  {problem.kind}, {problem.count}: {problem.file}: {problem.what}; {problem.remedy}"
            for problem in index.problems
        ]
    return "\n".join(lines)
