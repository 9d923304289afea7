"""From a path to a data set, or to a word of help."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from personsearch.core.errors import InputError
from personsearch.data.opening import format_of


def test_material_of_a_data_set_is_told_what_to_make_of_it(tmp_path: Path) -> None:
    crops, archive, videos = tmp_path / "crops", tmp_path / "archive", tmp_path / "videos"
    for folder in (crops, archive, videos):
        folder.mkdir()
    (crops / "0002_c1s1_000451_03.jpg").write_bytes(b"")
    with zipfile.ZipFile(archive / "crops.zip", "w") as file:
        file.writestr("train/0002_c1s1_000451_03.jpg", b"")
    (videos / "street.MP4").write_bytes(b"")
    for path in (crops, archive, archive / "crops.zip"):
        with pytest.raises(InputError, match="name them in a composite specification"):
            format_of(path)
    for path in (videos, videos / "street.MP4"):
        with pytest.raises(InputError, match=r"`personsearch data label .*street\.MP4 --out proposed` proposes boxes"):
            format_of(path)
