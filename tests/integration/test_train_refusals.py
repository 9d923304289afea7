"""What cannot be trained is refused in one line, before a run folder is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_runs import STUDENT_TRUNK, teacher_recipe, write_folder

from personsearch.core.errors import InputError
from personsearch.train import run_training

ABSURD_TRUNK = {**STUDENT_TRUNK, "channels": [400_000, 400_000, 400_000], "person_channels": 400_000}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("base") / "data")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_images": 11}, r"^batch_images: a step takes 11 images \(batch_images 11\), an epoch has 10; lower it"),
        (
            {"batch_images": 4, "accumulate": 3},
            r"a step takes 12 images \(batch_images 4 x accumulate 3\), an epoch has 10",
        ),
        ({"batch_images": 6, "epoch_images": 5}, "a step takes 6 images .*, an epoch has 5"),
        (
            {"batch_images": 10_000_000, "epoch_images": 20_000_000},
            r"^memory: training needs about \d+\.\d GiB .* for batches of 10000000 images\), .* set batch_images=\d+",
        ),
        ({"model": {"trunk": ABSURD_TRUNK}}, r"^memory: training needs about \d+\.\d GiB .* choose a smaller"),
    ],
)
def test_what_cannot_be_trained_is_refused(root: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        run_training(teacher_recipe(root, **changes), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_compiler_that_is_not_there_is_named(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match=r"there is no C\+\+ compiler \(no-such-compiler\); .* set compile=false$"):
        run_training(teacher_recipe(root, compile=True), tmp_path / "run")
    assert not (tmp_path / "run").exists()
