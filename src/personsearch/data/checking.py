"""Whether a data set is all there and as it should be: what `personsearch data check` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from personsearch.core.errors import InputError
from personsearch.data.checking_labels import label_problems, shared_problems
from personsearch.data.checking_pixels import check_pixels
from personsearch.data.formats import DatasetFormat, ExpectedFile, all_formats
from personsearch.data.index import Problem, ProblemKind
from personsearch.data.opening import format_of
from personsearch.data.survey import Survey, survey

RENDERED_LOOKED_AT, RENDERED_LOOKED_AT_DEEP = 400, 2000
"""Frames looked at of a split that renders as many as one likes."""
IMAGE_FILES = "image files"
MISCOUNT_REMEDY = "unpack the set again, or do not compare with published figures"


@dataclass(frozen=True)
class FileCheck:
    """A file that belongs to the data set, and how many of it are there."""

    expected: ExpectedFile
    found: int

    @property
    def ok(self) -> bool:
        return self.found >= self.expected.count

    @property
    def problem(self) -> Problem | None:
        if self.ok:
            return None
        what = self.expected.what if not self.found else f"{self.found:,} of {self.expected.count:,}"
        kind: ProblemKind = "noted" if self.expected.optional else "missing"
        return Problem(
            kind, self.expected.path, f"missing: {what}", self.expected.remedy, self.expected.count - self.found
        )


@dataclass(frozen=True)
class CountCheck:
    """A count of a split beside the one it should be; none where nothing is published."""

    name: str
    found: int
    expected: int | None = None

    @property
    def ok(self) -> bool:
        return self.expected is None or self.found == self.expected


@dataclass(frozen=True)
class SplitCheck:
    """What is in a split.

    Attributes:
        name: of the split.
        counts: of its labels and image files; empty where it cannot be opened.
        frames: how many it has.
        looked_at: how many of them the counts are of.
    """

    name: str
    counts: tuple[CountCheck, ...]
    frames: int
    looked_at: int

    @property
    def as_published(self) -> bool:
        """Whether there are published counts and all are met."""
        published = [count for count in self.counts if count.expected is not None and count.name != IMAGE_FILES]
        return bool(published) and all(count.ok for count in published)

    @property
    def miscounts(self) -> tuple[Problem, ...]:
        """Counts that differ from the published ones."""
        return tuple(
            Problem(
                "wrong",
                "",
                f"{count.name}: {count.found:,} in place of the {count.expected:,} published",
                MISCOUNT_REMEDY,
                abs(count.found - count.expected),
            )
            for count in self.counts
            if count.expected is not None and count.name != IMAGE_FILES and not count.ok
        )


@dataclass(frozen=True)
class DatasetReport:
    """What there is at a path, and what is missing or wrong.

    Attributes:
        path: of the data set.
        format: its name.
        files: files that the format expects.
        splits: what is in each.
        noticed: problems and notes beside the files and the counts, with the split that they are of, empty for the
            whole set.
        deep: whether the images were read.
        images_read: how many were.
        unreadable: how many of these failed.
        stopped: whether the first of these ended the reading.
    """

    path: str
    format: str
    files: tuple[FileCheck, ...]
    splits: tuple[SplitCheck, ...]
    noticed: tuple[tuple[str, Problem], ...]
    deep: bool
    images_read: int
    unreadable: int
    stopped: bool

    @property
    def findings(self) -> tuple[tuple[str, Problem], ...]:
        """All problems and notes: files, counts, and what was noticed."""
        files = [("", file.problem) for file in self.files if file.problem is not None]
        counts = [(split.name, problem) for split in self.splits for problem in split.miscounts]
        return (*files, *counts, *self.noticed)

    @property
    def problems(self) -> tuple[tuple[str, Problem], ...]:
        """The findings that keep the data set from being well: what is only noted is none, nor are rows that were
        dropped where the split has the published counts without them."""
        published = {split.name for split in self.splits if split.as_published}
        return tuple(
            (split, problem)
            for split, problem in self.findings
            if problem.kind in ("missing", "wrong") or (problem.kind == "dropped" and split not in published)
        )

    @property
    def ok(self) -> bool:
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "path": self.path,
            "format": self.format,
            "ok": self.ok,
            "files": [{**asdict(file.expected), "found": file.found} for file in self.files],
            "splits": [
                {
                    "name": split.name,
                    "frames": split.frames,
                    "looked_at": split.looked_at,
                    "counts": {count.name: count.found for count in split.counts},
                    "expected": {count.name: count.expected for count in split.counts if count.expected is not None},
                }
                for split in self.splits
            ],
            "problems": dict(Counter(problem.kind for _, problem in self.problems)),
            "findings": [{"split": split, **asdict(problem)} for split, problem in self.findings],
            "deep": self.deep,
            "images_read": self.images_read,
            "unreadable": self.unreadable,
            "stopped": self.stopped,
        }


def check_dataset(
    root: Path,
    *,
    deep: bool = False,
    skip_bad: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> DatasetReport:
    """Looks at all of a data set: files, labels, queries, and if asked every image.

    Args:
        root: data set in any format, or a part of one that its format recognises.
        deep: whether to decode every image.
        skip_bad: whether to go on past an image that cannot be read.
        progress: called with images read and images in all.

    Raises:
        InputError: ``root`` is no data set.
    """
    form = _format_at(root)
    files = tuple(FileCheck(expected, _found(root, expected)) for expected in form.expected_files(root))
    noticed: list[tuple[str, Problem]] = []
    surveys: dict[str, Survey] = {}
    names = _splits(form, root, noticed)
    for split in names:
        try:
            limit = RENDERED_LOOKED_AT_DEEP if deep else RENDERED_LOOKED_AT
            surveys[split] = survey(form.open(root, split, None), limit)
        except InputError as error:
            if not _is_told(error, files):
                noticed.append((split, _from_error(error, root)))
    splits = [SplitCheck(split, (), 0, 0) for split in names if split not in surveys]
    for split, seen in surveys.items():
        splits.append(_split_check(split, seen, form.published.get(split, {})))
        told = [*seen.index.problems, *label_problems(split, seen)]
        noticed += [(split, problem) for problem in told]
    noticed += shared_problems(surveys, form.shared_identities)
    read = unreadable = 0
    stopped = False
    if deep:
        pixels = check_pixels(surveys, skip_bad=skip_bad, progress=progress)
        noticed += pixels.problems
        read, unreadable, stopped = pixels.read, pixels.unreadable, pixels.stopped
    return DatasetReport(str(root), form.name, files, tuple(splits), tuple(noticed), deep, read, unreadable, stopped)


def _format_at(root: Path) -> DatasetFormat:
    formats = all_formats()
    for one in formats:
        if root.exists() and one.matches(root):
            return one
    for one in formats:
        if root.exists() and one.matches_part(root):
            return one
    return format_of(root)


def _found(root: Path, expected: ExpectedFile) -> int:
    if any(sign in expected.path for sign in "*?"):
        return sum(path.is_file() for path in root.glob(expected.path))
    return int((root / expected.path).exists())


def _splits(form: DatasetFormat, root: Path, noticed: list[tuple[str, Problem]]) -> tuple[str, ...]:
    try:
        splits = form.splits(root)
    except InputError as error:
        noticed.append(("", _from_error(error, root)))
        return ()
    if not splits:
        noticed.append(("", Problem("wrong", "", "has no split", "see docs/datasets.md for its format")))
    return splits


def _is_told(error: InputError, files: tuple[FileCheck, ...]) -> bool:
    """Whether a split fails for a file that is already said to be missing."""
    return any(not file.ok and error.where.endswith(file.expected.path) for file in files)


def _from_error(error: InputError, root: Path) -> Problem:
    where = error.where.removeprefix(f"{root}/") if error.where != str(root) else ""
    remedy = "; ".join(filter(None, (f"expected {error.expected}" if error.expected else "", error.remedy)))
    return Problem("wrong", where, error.what, remedy)


def _split_check(split: str, seen: Survey, published: Mapping[str, int]) -> SplitCheck:
    counts = seen.index.counts()
    if not seen.whole:
        counts["images"] = len(seen.dataset)
    rows = [CountCheck(name, found, published.get(name)) for name, found in counts.items()]
    rows += [CountCheck(name, 0, wanted) for name, wanted in published.items() if name not in counts]
    on_disk = [path for path in seen.index.image_paths if path]
    if on_disk and seen.whole:
        there = sum((seen.root / path).is_file() for path in on_disk)
        rows.insert(1, CountCheck(IMAGE_FILES, there, len(on_disk)))
    return SplitCheck(split, tuple(rows), len(seen.dataset), len(seen.rows))
