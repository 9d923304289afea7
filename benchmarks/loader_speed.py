"""How many images a second the training loader gives, against its number of processes, and what decoding costs.

Generated frames stand in for footage: noise of all scales whose JPEGs are as large as those of street frames. All
settings are measured in turns, several times over, so that their ratios hold on a machine that does other things.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torchvision.io import ImageReadMode, decode_jpeg

from personsearch.core.preprocess import Frame, Preprocess
from personsearch.core.progress import StageProgress
from personsearch.core.recipe import StrictModel
from personsearch.core.recipes import DataRecipe
from personsearch.core.seeding import rng_for
from personsearch.data.images import read_image_bgr
from personsearch.data.loader import TrainingLoader
from personsearch.data.sample import Query, Sample, SearchDataset

FRAME_WH = (1500, 900)
"""The field's frame (HDL, SeqNet and others resize to 900x1500)."""
INPUTS = ((1504, 896), (640, 384))
"""The papers' network input and one for a camera."""
JPEG_QUALITY = 90
PEOPLE = 8
BATCH_IMAGES = 4
WARM_BATCHES = 4
Decoder = Callable[[NDArray[np.uint8]], object]


class LoaderSpeed(StrictModel):
    """One setting of the loader."""

    input_wh: tuple[int, int]
    decode: str
    workers: int
    images_per_s: float = Field(description="median over the rounds")
    main_ms: float = Field(description="processor milliseconds of the training process an image, median")
    cpu_ms: float = Field(description="of all processes together; what the machine does besides changes it least")


class DecoderSpeed(StrictModel):
    """One way to decode a frame."""

    name: str
    ms: float = Field(description="median")


class GeneratedFrames:
    """JPEG files with a few people each, as a data set."""

    name, terms, person_count = "generated frames", "free", PEOPLE
    queries: tuple[Query, ...] = ()

    def __init__(self, paths: Sequence[Path], frame_wh: tuple[int, int]) -> None:
        self.paths, self._wh = list(paths), frame_wh

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        rng = rng_for(index, "people")
        size = np.array(self._wh) * (0.04, 0.2)
        corners = rng.random((PEOPLE, 2)) * (np.array(self._wh) - size)
        boxes = np.concatenate([corners, corners + size], axis=1).astype(np.float32)
        return Sample(self.paths[index], boxes, np.arange(PEOPLE), 0, index, self._wh)

    def frame_bgr(self, index: int) -> Frame:
        """Pixels of frame ``index``, ``(H, W, 3)`` uint8 BGR."""
        return read_image_bgr(self.paths[index], self._wh)


@contextmanager
def generated_jpegs(count: int, frame_wh: tuple[int, int] = FRAME_WH) -> Iterator[GeneratedFrames]:
    """A data set of ``count`` frames in a temporary folder."""
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.jpg" for number in range(count)]
        for number, path in enumerate(paths):
            cv2.imwrite(str(path), textured_frame(number, frame_wh), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        yield GeneratedFrames(paths, frame_wh)


def textured_frame(seed: int, frame_wh: tuple[int, int]) -> Frame:
    """Colour noise whose amplitude grows with its wavelength, as in photographs; ``(H, W, 3)`` uint8."""
    rng, (width, height) = rng_for(seed, "texture"), frame_wh
    levels = np.zeros((height, width, 3), dtype=np.float32)
    for octave in range(1, 9):
        coarse = rng.standard_normal(((height >> octave) + 2, (width >> octave) + 2, 3), dtype=np.float32)
        levels += cv2.resize(coarse, frame_wh, interpolation=cv2.INTER_CUBIC) * np.float32(2 ** (octave / 2))
    frame: Frame = np.clip(levels / levels.std() * 45 + 115, 0, 255).astype(np.uint8)
    return frame


def measure_decoders(paths: Sequence[Path], *, rounds: int = 5) -> list[DecoderSpeed]:
    """Times ways to decode JPEG files on one core, in turns; files are read before."""
    decoders: dict[str, Decoder] = {
        "opencv": lambda content: cv2.imdecode(content, cv2.IMREAD_COLOR),
        "opencv_half": lambda content: cv2.imdecode(content, cv2.IMREAD_REDUCED_COLOR_2),
        "opencv_quarter": lambda content: cv2.imdecode(content, cv2.IMREAD_REDUCED_COLOR_4),
        "torchvision_rgb_chw": lambda content: _torchvision(content),
        "torchvision_bgr_hwc": lambda content: np.ascontiguousarray(_torchvision(content)[::-1].transpose(1, 2, 0)),
    }
    contents = [np.fromfile(path, dtype=np.uint8) for path in paths]
    times: dict[str, list[float]] = {name: [] for name in decoders}
    with _one_thread():
        for _ in range(rounds):
            for content in contents:
                for name, decode in decoders.items():
                    started = time.perf_counter()
                    decode(content)
                    times[name].append(time.perf_counter() - started)
    return [DecoderSpeed(name=name, ms=1e3 * statistics.median(found)) for name, found in times.items()]


def measure_loader(
    dataset: SearchDataset,
    *,
    inputs: Sequence[tuple[int, int]] = INPUTS,
    decodes: Sequence[str] = ("full", "reduced"),
    workers: Sequence[int] = (0, 1, 2),
    images: int = 96,
    rounds: int = 3,
) -> list[LoaderSpeed]:
    """Takes epochs from the loader with its default variation, in every setting by turns, as fast as they come.

    The first `WARM_BATCHES` of each epoch are not timed; then the processes' buffers are empty, as nothing but their
    speed limits the epoch.

    Args:
        dataset: whose frames are loaded.
        inputs: network inputs, width and height.
        decodes: `DataRecipe.decode`.
        workers: numbers of loader processes.
        images: in a timed epoch.
        rounds: epochs of each setting.
    """
    settings = [(wh, decode, count) for wh in inputs for decode in decodes for count in workers]
    rates: dict[tuple[tuple[int, int], str, int], list[tuple[float, float, float]]] = {
        setting: [] for setting in settings
    }
    with _one_thread(), StageProgress("loader", len(settings) * rounds) as progress:
        for epoch in range(rounds):
            for setting in settings:
                wh, decode, count = setting
                recipe = DataRecipe.model_validate({"root": "", "workers": count, "decode": decode})
                loader = TrainingLoader(
                    dataset,
                    recipe,
                    Preprocess(input_wh=wh),
                    batch_images=BATCH_IMAGES,
                    epoch_images=images + WARM_BATCHES * BATCH_IMAGES,
                    seed=0,
                )
                loader.set_epoch(epoch)
                before = sum(os.times()[:4])
                rate, main_ms = loading_rate(loader)
                # Ends its processes before the next setting is timed; what they took is known only then.
                del loader
                gc.collect()
                cpu_ms = 1e3 * (sum(os.times()[:4]) - before) / (images + WARM_BATCHES * BATCH_IMAGES)
                rates[setting].append((rate, main_ms, cpu_ms))
                progress.advance()
    speeds = []
    for (wh, decode, count), found in rates.items():
        rate, main_ms, cpu_ms = (statistics.median(column) for column in zip(*found, strict=True))
        speed = {"input_wh": wh, "decode": decode, "workers": count, "images_per_s": rate}
        speeds.append(LoaderSpeed.model_validate({**speed, "main_ms": main_ms, "cpu_ms": cpu_ms}))
    return speeds


def loading_rate(loader: TrainingLoader) -> tuple[float, float]:
    """Images a second, and this process's milliseconds an image, of an epoch without its first `WARM_BATCHES`."""
    taken, started, spent = 0, 0.0, 0.0
    for step, batch in enumerate(loader):
        if step >= WARM_BATCHES:
            taken += len(batch.images)
        elif step == WARM_BATCHES - 1:
            started, spent = time.perf_counter(), time.process_time()
    elapsed, spent = time.perf_counter() - started, time.process_time() - spent
    return taken / elapsed, 1e3 * spent / taken


def _torchvision(content: NDArray[np.uint8]) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = decode_jpeg(torch.from_numpy(content), mode=ImageReadMode.RGB).numpy()
    return pixels


@contextmanager
def _one_thread() -> Iterator[None]:
    """OpenCV and torch on one thread each, as in a loader process."""
    before = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])
