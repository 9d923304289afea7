"""A teacher's maps kept on disk: with fixed augmentation it sees the same frames every epoch.

Kept is what the trunk gives, most of a teacher's cost and all of it that does not depend on the student's RoIs and
anchors; proposals' layers and the head still run. An entry is found by the frame's own content, so a frame that is
varied after all is worked out anew, never mistaken.
"""

from __future__ import annotations

import hashlib
import pickle
import shutil
from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor, nn

from personsearch.core.errors import InputError
from personsearch.core.files import atomic_file
from personsearch.core.recipes import DataRecipe
from personsearch.models.backbones.trunk import Trunk

GIB = 2**30
_FEATURE = ""


def count_variants(data: DataRecipe) -> int:
    """In how many ways a frame is shown: mirrored or not, at each input size.

    Raises:
        InputError: a frame is varied without end, so that nothing would ever be found again.
    """
    endless = {
        "photometric": data.photometric > 0,
        "zoom": data.zoom != (1, 1),
        "blur": data.blur > 0,
        "erase": data.erase > 0,
    }
    varied = [name for name, on in endless.items() if on]
    if varied:
        raise InputError(
            f"`data.{varied[0]}` shows a frame differently every time",
            where="teacher_cache",
            expected="fixed augmentation: data.photometric=0 data.zoom=[1,1] data.blur=0 data.erase=0",
            remedy="fix it, or leave teacher_cache out",
        )
    return (2 if 0 < data.flip < 1 else 1) * max(1, len(data.input_sizes))


class CachedTrunk(Trunk):
    """A frozen trunk that looks first whether it has seen a frame before.

    Args:
        trunk: in evaluation mode, where frames of a batch do not touch each other.
        folder: for its entries; several processes may share it.
        wanted: names of the taps to keep beside the feature map.
        entries: frames that will come, for the check of the disk.

    Attributes:
        record: ``found`` and ``computed`` frames so far, for the run's record.
    """

    def __init__(self, trunk: Trunk, folder: Path, *, wanted: Collection[str], entries: int) -> None:
        super().__init__()
        self.trunk, self._folder, self._wanted, self._entries = trunk, folder, frozenset(wanted), entries
        self.out_channels, self.stride, self.person_channels = trunk.out_channels, trunk.stride, trunk.person_channels
        self.record = {"found": 0, "computed": 0}

    def person_block(self) -> nn.Module:
        return self.trunk.person_block()

    def forward(self, images: Tensor, taps: dict[str, Tensor]) -> Tensor:
        paths = [self._path(image) for image in images]
        kept = [_read(path) for path in paths]
        missing = [number for number, entry in enumerate(kept) if entry is None]
        if missing:
            for number, entry in zip(missing, self._compute(images[missing]), strict=True):
                kept[number] = entry
                self._write(paths[number], entry)
        self.record["found"] += len(images) - len(missing)
        self.record["computed"] += len(missing)
        entries = [entry for entry in kept if entry is not None]
        maps = {name: torch.stack([entry[name] for entry in entries]).to(images.device) for name in entries[0]}
        feature = maps.pop(_FEATURE)
        taps |= maps
        return feature

    def _path(self, image: Tensor) -> Path:
        content = image.detach().to("cpu", torch.float32).contiguous().numpy()
        digest = hashlib.blake2b(content.tobytes(), digest_size=16, person=b"frame").hexdigest()
        shape = "x".join(str(side) for side in image.shape[1:])
        return self._folder / digest[:2] / f"{digest}-{shape}.pt"

    def _compute(self, images: Tensor) -> list[dict[str, Tensor]]:
        taps: dict[str, Tensor] = {}
        feature = self.trunk(images, taps)
        entries = []
        for number in range(len(images)):
            entry = {_FEATURE: feature[number].detach().cpu().clone()}
            for name in self._wanted & taps.keys():
                # The last level's map is most often the feature itself, and is then written once.
                same = taps[name].data_ptr() == feature.data_ptr()
                entry[name] = entry[_FEATURE] if same else taps[name][number].detach().cpu().clone()
            entries.append(entry)
        return entries

    def _write(self, path: Path, entry: dict[str, Tensor]) -> None:
        if self.record["computed"] == 0:
            self._check_disk(sum(tensor.nbytes for tensor in {id(one): one for one in entry.values()}.values()))
        with atomic_file(path) as part, part.open("wb") as file:
            torch.save(entry, file)

    def _check_disk(self, entry_bytes: int) -> None:
        there = next(parent for parent in (self._folder, *self._folder.parents) if parent.exists())
        needed, free = entry_bytes * self._entries, shutil.disk_usage(there).free
        if needed > free:
            raise InputError(
                f"{self._entries} frames of {entry_bytes / 2**20:.1f} MiB need {needed / GIB:.1f} GiB",
                where=f"teacher_cache {self._folder}",
                expected=f"at most the {free / GIB:.1f} GiB that are free",
                remedy="leave teacher_cache out, or name a larger disk",
            )


def cache_folder(root: Path, checkpoint_sha256: str, wanted: Collection[str], precision: str) -> Path:
    """Where the entries of one teacher, one set of taps and one precision are."""
    text = "\n".join([checkpoint_sha256, precision, *sorted(wanted)])
    return root / hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _read(path: Path) -> dict[str, Tensor] | None:
    try:
        entry: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        path.unlink(missing_ok=True)  # cut short by a full disk: computed again
        return None
    return entry
