"""A teacher's maps on disk: the same maps, fewer forward passes, nothing mistaken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from personsearch.core.errors import InputError
from personsearch.core.recipes import DataRecipe
from personsearch.distill.teacher_cache import CachedTrunk, cache_folder, count_variants
from personsearch.models.backbones.depthwise import DepthwiseSeparable
from personsearch.models.backbones.trunk import Trunk

FIXED: dict[str, Any] = {"root": "there", "photometric": 0, "zoom": (1, 1)}


def plain_trunk() -> Trunk:
    torch.manual_seed(0)
    trunk = DepthwiseSeparable(stem_channels=4, channels=(4, 6, 8), stride=16, modules=1, person_channels=8)
    return trunk.eval().requires_grad_(False)


def frames(seed: int, count: int) -> Tensor:
    return torch.randn(count, 3, 32, 48, generator=torch.Generator().manual_seed(seed))


def test_maps_are_those_of_the_trunk_and_frames_are_found_in_any_order(tmp_path: Path) -> None:
    plain = plain_trunk()
    cached = CachedTrunk(plain, tmp_path / "c", wanted={"feature.0", "feature.2", "identity_logits"}, entries=4).eval()
    images = frames(0, 3)
    expected: dict[str, Tensor] = {}
    feature = plain(images, expected)
    for turn, order in enumerate(([0, 1, 2], [2, 0, 1])):
        taps: dict[str, Tensor] = {}
        torch.testing.assert_close(cached(images[order], taps), feature[order])
        assert sorted(taps) == ["feature.0", "feature.2"], "what the head gives is not the trunk's"
        for name in taps:
            torch.testing.assert_close(taps[name], expected[name][order])
        assert cached.record == {"found": 3 * turn, "computed": 3}
    more = torch.cat([images[:1], frames(1, 1)])
    torch.testing.assert_close(cached(more, {}), plain(more, {}))
    assert cached.record == {"found": 4, "computed": 4}
    again = CachedTrunk(plain, tmp_path / "c", wanted={"feature.0", "feature.2"}, entries=4).eval()
    torch.testing.assert_close(again(more, {}), plain(more, {}))
    assert again.record == {"found": 2, "computed": 0}, "the next run finds them, too"
    assert (again.stride, again.out_channels, again.person_channels) == (16, 8, 8)


def test_a_pixel_that_differs_is_another_frame(tmp_path: Path) -> None:
    plain, images = plain_trunk(), frames(0, 1)
    cached = CachedTrunk(plain, tmp_path, wanted=(), entries=2).eval()
    cached(images, {})
    changed = images.clone()
    changed[0, 0, 0, 0] += 1e-3
    torch.testing.assert_close(cached(changed, {}), plain(changed, {}))
    assert cached.record["computed"] == 2


def test_half_written_entries_are_computed_again(tmp_path: Path) -> None:
    plain, images = plain_trunk(), frames(0, 1)
    CachedTrunk(plain, tmp_path, wanted=(), entries=1).eval()(images, {})
    (entry,) = tmp_path.rglob("*.pt")
    for content in (entry.read_bytes()[:200], b""):
        entry.write_bytes(content)
        cached = CachedTrunk(plain, tmp_path, wanted=(), entries=1).eval()
        torch.testing.assert_close(cached(images, {}), plain(images, {}))
        assert cached.record == {"found": 0, "computed": 1}


def test_a_disk_that_is_too_small_is_told_before_it_is_full(tmp_path: Path) -> None:
    cached = CachedTrunk(plain_trunk(), tmp_path / "c", wanted=(), entries=10**15).eval()
    with pytest.raises(InputError, match=r"teacher_cache .*frames of 0\.0 MiB need .* GiB; expected at most the"):
        cached(frames(0, 1), {})
    assert not list(tmp_path.rglob("*.pt"))


def test_teachers_taps_and_precisions_do_not_share_entries(tmp_path: Path) -> None:
    same = [cache_folder(tmp_path, "a", names, "x") for names in (["f", "g"], ["g", "f"])]
    others = [
        cache_folder(tmp_path, *key) for key in (("b", ["f", "g"], "x"), ("a", ["f"], "x"), ("a", ["f", "g"], "y"))
    ]
    assert len(set(same)) == 1
    assert len({same[0], *others}) == 4


@pytest.mark.parametrize(
    ("changes", "count"),
    [({"flip": 0}, 1), ({"flip": 1}, 1), ({}, 2), ({"input_sizes": ((64, 64), (96, 64), (128, 96))}, 6)],
)
def test_ways_in_which_a_frame_is_shown(changes: dict[str, Any], count: int) -> None:
    assert count_variants(DataRecipe(**{**FIXED, **changes})) == count


@pytest.mark.parametrize("changes", [{"photometric": 0.5}, {"zoom": (0.9, 1)}, {"blur": 0.1}, {"erase": 0.1}])
def test_endless_variation_is_refused(changes: dict[str, Any]) -> None:
    (name,) = changes
    with pytest.raises(InputError, match=f"`data.{name}` shows a frame differently every time; expected fixed"):
        count_variants(DataRecipe(**{**FIXED, **changes}))
