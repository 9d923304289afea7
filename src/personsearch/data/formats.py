"""Every data set format that `open_dataset` knows, in the order in which a path is tried against them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from personsearch.core.errors import InputError
from personsearch.data.images import read_json_object
from personsearch.data.index import DEFAULT_PROTOCOL
from personsearch.data.sample import SearchDataset

FOLDER_DESCRIPTION = "dataset.json"


@dataclass(frozen=True)
class ExpectedFile:
    """A file that a published data set consists of.

    Attributes:
        path: relative to the data set's root, ``/`` between folders; ``*`` and ``?`` stand for any part of a name.
        what: what it holds, for people.
        remedy: where it comes from, or what to do without it.
        count: files that ``path`` should match, at least.
        optional: whether the set can be used without it.
    """

    path: str
    what: str
    remedy: str
    count: int = 1
    optional: bool = False


def _no_files(root: Path) -> tuple[ExpectedFile, ...]:
    return ()


def _never(root: Path) -> bool:
    return False


@dataclass(frozen=True)
class DatasetFormat:
    """How one format is recognised and opened.

    Attributes:
        name: as `personsearch data check` prints it.
        matches: whether a path looks like this format; cheap, looks at names only.
        splits: the splits that are there.
        open: path, split and search protocol (none for the format's first) to a data set.
        published: for each split the counts that the publisher or the literature states, under the names of
            `LabelIndex.counts`; empty for a format that is not one particular set.
        matches_part: whether a path holds some of a set's files, too few to open it; `personsearch data check` then
            says what is missing.
        expected_files: what belongs at a path, there or not.
        shared_identities: identities that the publisher has in several splits on purpose, such as PRW's 94; none
            where each split numbers its people by itself, so that nothing can be said.
    """

    name: str
    matches: Callable[[Path], bool]
    splits: Callable[[Path], tuple[str, ...]]
    open: Callable[[Path, str, str | None], SearchDataset]
    published: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    matches_part: Callable[[Path], bool] = _never
    expected_files: Callable[[Path], tuple[ExpectedFile, ...]] = _no_files
    shared_identities: int | None = 0


def all_formats() -> tuple[DatasetFormat, ...]:
    """The formats; what they need is imported when one is opened."""
    return (_COMPOSITES, _FOLDER, _CUHK_SYSU, _CUHK_SEARCHES, _PRW, _MOT, _COCO)


def _open_composites(path: Path, split: str, protocol: str | None) -> SearchDataset:
    from personsearch.data.composite_spec import read_composite_spec
    from personsearch.data.composites import CompositeDataset
    from personsearch.data.mixed import MixedDataset
    from personsearch.data.motchallenge import MotDataset

    _only_default(protocol, path)
    spec = read_composite_spec(path)
    composites = CompositeDataset(spec, split)
    if split != "train" or spec.mot is None or spec.mot_share == 0:
        return composites
    # One name and one set of terms: the specification states them for all of its material.
    frames = MotDataset(Path(spec.mot), name=spec.name, terms=spec.terms)
    return MixedDataset(composites, [frames], [spec.mot_share], spec.seed)


def _open_folder(root: Path, split: str, protocol: str | None) -> SearchDataset:
    from personsearch.data.folder import open_folder

    return open_folder(root, split, protocol)


def _only_default(protocol: str | None, root: Path) -> None:
    if protocol not in (None, DEFAULT_PROTOCOL):
        raise InputError(
            f"search protocol `{protocol}` is unknown", where=str(root), expected=f"none or `{DEFAULT_PROTOCOL}`"
        )


def _folder_splits(root: Path) -> tuple[str, ...]:
    splits = read_json_object(root / FOLDER_DESCRIPTION).get("splits")
    return tuple(splits) if isinstance(splits, dict) else ()


def _is_mot(path: Path) -> bool:
    from personsearch.data.motchallenge import is_mot

    return is_mot(path)


def _open_mot(path: Path, split: str, protocol: str | None) -> SearchDataset:
    from personsearch.data.motchallenge import open_mot

    return open_mot(path, split, protocol)


def _is_coco(path: Path) -> bool:
    from personsearch.data.coco_layout import is_coco

    return is_coco(path)


def _coco_splits(path: Path) -> tuple[str, ...]:
    from personsearch.data.coco_layout import annotation_files

    return tuple(annotation_files(path))


def _open_coco(path: Path, split: str, protocol: str | None) -> SearchDataset:
    from personsearch.data.coco_layout import open_coco

    return open_coco(path, split, protocol)


def _folder_files(root: Path) -> tuple[ExpectedFile, ...]:
    splits = read_json_object(root / FOLDER_DESCRIPTION).get("splits")
    return tuple(
        ExpectedFile(path, f"labels of split `{name}`", f"put it there, or correct `splits` in {FOLDER_DESCRIPTION}")
        for name, path in (splits.items() if isinstance(splits, dict) else ())
        if isinstance(path, str)
    )


def _open_cuhk_sysu(path: Path, split: str, protocol: str | None) -> SearchDataset:
    from personsearch.data.cuhk_sysu import open_cuhk_sysu

    return open_cuhk_sysu(path, split, protocol)


def _open_cuhk_searches(path: Path, split: str, protocol: str | None) -> SearchDataset:
    from personsearch.data.cuhk_searches import open_searches_alone

    return open_searches_alone(path, split, protocol)


def _cuhk_files(root: Path) -> tuple[ExpectedFile, ...]:
    from personsearch.data.cuhk_searches import image_folder

    folder = "." if _is_cuhk_searches(root) else "annotation/test/train_test"
    searches = (f"{folder}/TestG{size}.mat".removeprefix("./") for size in _GALLERY_SIZES)
    return (
        ExpectedFile("annotation/Images.mat", "boxes of all images", _CUHK_SOURCE),
        ExpectedFile("annotation/pool.mat", "names of the test images", _CUHK_SOURCE),
        ExpectedFile("annotation/test/train_test/Train.mat", "identities of the training set", _CUHK_SOURCE),
        *(ExpectedFile(path, "searches", _CUHK_SOURCE, optional=folder == ".") for path in searches),
        ExpectedFile(f"{image_folder(root)}/*.jpg", "the images", "unpack the published images there", 18_184),
    )


def _is_cuhk_searches(path: Path) -> bool:
    return not (path / "annotation").exists() and any((path / f"TestG{n}.mat").is_file() for n in _GALLERY_SIZES)


def _open_prw(path: Path, split: str, protocol: str | None) -> SearchDataset:
    from personsearch.data.prw import open_prw

    return open_prw(path, split, protocol)


def _prw_files(root: Path) -> tuple[ExpectedFile, ...]:
    return (
        ExpectedFile("frame_train.mat", "names of the training frames", _PRW_SOURCE),
        ExpectedFile("frame_test.mat", "names of the test frames", _PRW_SOURCE),
        ExpectedFile("annotations/*.jpg.mat", "boxes and identities of one frame each", _PRW_SOURCE, 11_816),
        ExpectedFile("frames/*.jpg", "the frames", _PRW_SOURCE, 11_816),
        ExpectedFile("query_info.txt", "the queries", _PRW_SOURCE),
        ExpectedFile("prwmini_query_info.txt", "PRW-mini's 30 queries", "see docs/datasets.md", optional=True),
    )


_GALLERY_SIZES = (50, 100, 500, 1000, 2000, 4000)
_CUHK_PARTS = ("annotation/pool.mat", "annotation/Person.mat", "Image/SSM")
_PRW_PARTS = ("query_info.txt", "annotations/c?s?_*.jpg.mat", "frames/c?s?_*.jpg")
_CUHK_SOURCE = "unpack the annotation folder of the published set"
_PRW_SOURCE = "unpack PRW-v16.04.20 again"
_COMPOSITES = DatasetFormat(
    name="composite specification (.yaml)",
    matches=lambda path: path.suffix in (".yaml", ".yml") and path.is_file(),
    splits=lambda path: ("train", "validation"),
    open=_open_composites,
    shared_identities=None,
)
_FOLDER = DatasetFormat(
    name="personsearch folder (dataset.json)",
    matches=lambda path: (path / FOLDER_DESCRIPTION).is_file(),
    splits=_folder_splits,
    open=_open_folder,
    expected_files=_folder_files,
    shared_identities=None,
)
_MOT = DatasetFormat(
    name="MOTChallenge sequences (seqinfo.ini or gt/gt.txt, also CVAT's zip)",
    matches=_is_mot,
    splits=lambda path: ("all",),
    open=_open_mot,
)
_COCO = DatasetFormat(
    name="COCO with person_id (.json, .json.gz, annotations/*.json)",
    matches=_is_coco,
    splits=_coco_splits,
    open=_open_coco,
    shared_identities=None,  # the reader compares the people who are searched
)
_CUHK_SYSU = DatasetFormat(
    name="CUHK-SYSU (annotation/*.mat)",
    matches=lambda path: (path / "annotation/test/train_test").is_dir() or (path / "annotation/Images.mat").is_file(),
    splits=lambda path: ("train", "test"),
    open=_open_cuhk_sysu,
    published={
        "train": {"images": 11_206, "boxes": 55_272, "identities": 5_532},
        "test": {"images": 6_978, "boxes": 40_871, "identities": 2_900}
        | {f"queries.{name}": 2_900 for name in (*(f"g{size}" for size in _GALLERY_SIZES), "full")},
    },
    matches_part=lambda path: any((path / part).exists() for part in _CUHK_PARTS),
    expected_files=_cuhk_files,
)
_CUHK_SEARCHES = DatasetFormat(
    name="CUHK-SYSU's searches without its labels (TestG*.mat)",
    matches=_is_cuhk_searches,
    splits=lambda path: ("test",),
    open=_open_cuhk_searches,
    expected_files=_cuhk_files,
)
_PRW = DatasetFormat(
    name="PRW (annotations/*.jpg.mat)",
    matches=lambda path: any((path / f"frame_{split}.mat").is_file() for split in ("train", "test")),
    splits=lambda path: ("train", "test"),
    open=_open_prw,
    published={
        "train": {
            "images": 5_704,
            "boxes": 18_048,
            "labelled": 14_907,
            "unlabelled": 3_141,
            "identities": 483,
            "cameras": 6,
        },
        "test": {
            "images": 6_112,
            "boxes": 25_062,
            "labelled": 19_127,
            "unlabelled": 5_935,
            "identities": 544,
            "cameras": 6,
            "queries.all": 2_057,
            "queries.cross-camera": 2_057,
        },
    },
    matches_part=lambda path: any(next(path.glob(part), None) is not None for part in _PRW_PARTS),
    expected_files=_prw_files,
    shared_identities=94,
)
