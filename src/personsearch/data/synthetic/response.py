"""How one camera turns light into JPEG bytes: colour response, exposure over time, vignetting, blur, noise, quality."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from personsearch.core.errors import InputError
from personsearch.core.seeding import rng_for
from personsearch.data.synthetic.texture import F32

_NOISE = 1 << 21


@dataclass(frozen=True)
class Response:
    """One camera's way from scene to picture.

    Attributes:
        matrix: 3x3, rows are output BGR: gains, saturation and crosstalk.
        gamma: exponent after the matrix.
        black: pedestal added, 0..1 (haze, flare).
        vignette: loss of light in the corners, 0..1.
        blur_px: standard deviation of the optics' blur, at 224 px frame height.
        resolution: share of the frame's resolution that the sensor has; below 1 detail is lost.
        noise: standard deviation of the noise, grey levels of 255.
        jpeg_quality: 1..100.
    """

    matrix: tuple[tuple[float, float, float], ...]
    gamma: float
    black: float
    vignette: float
    blur_px: float
    resolution: float
    noise: float
    jpeg_quality: int


def draw_response(seed: int, name: str, day: int) -> Response:
    """The response of the camera called ``name``; white balance wanders a little from day to day."""
    rng = rng_for(seed, "response", name)
    # White balance errs along blue to yellow; green to magenta much less.
    warmth, tint = np.clip(rng.normal(0, 0.13), -0.22, 0.22), np.clip(rng.normal(0, 0.045), -0.08, 0.08)
    gains = np.exp([-warmth, -tint, warmth])
    saturation = float(rng.uniform(0.55, 1.2))
    luma = np.array([0.114, 0.587, 0.299])
    matrix = np.eye(3) * saturation + (1 - saturation) * luma[None, :]
    # Crosstalk turns hues but leaves grey to the white balance.
    crosstalk = rng.normal(0, 0.07, (3, 3))
    matrix = matrix + crosstalk - crosstalk.mean(1, keepdims=True)
    exposure = float(np.exp(np.clip(rng.normal(0.0, 0.17), -0.3, 0.25)))
    gamma = float(np.exp(np.clip(rng.normal(0, 0.2), -0.35, 0.35)))
    fixed = (
        float(rng.uniform(0.0, 0.07)),
        float(rng.uniform(0.05, 0.35)),
        float(rng.uniform(0.0, 0.6)),
        float(rng.uniform(0.75, 1.0)),
        float(rng.uniform(1.5, 6.0)),
        int(rng.integers(62, 93)),
    )
    daily = rng_for(seed, "response", name, day)
    gains = gains * np.exp(daily.normal(0, 0.05, 3))
    matrix = matrix * (gains * exposure * float(np.exp(daily.normal(0, 0.08))))[:, None]
    rows = tuple((float(row[0]), float(row[1]), float(row[2])) for row in matrix)
    return Response(rows, gamma, *fixed)


@lru_cache(maxsize=8)
def _noise_bank(seed: int) -> NDArray[np.float32]:
    return rng_for(seed, "noise bank").standard_normal(_NOISE).astype(np.float32)


@lru_cache(maxsize=16)
def _corner_mask(wh: tuple[int, int], vignette: float) -> F32:
    x = np.linspace(-1, 1, wh[0], dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, wh[1], dtype=np.float32)[:, None]
    mask: F32 = (1 - vignette * 0.5 * (x * x + y * y)).astype(np.float32)
    return mask[..., None]


def expose(scene: F32, response: Response, seed: int, moment: tuple[int | str, ...], drift: float) -> NDArray[np.uint8]:
    """The picture a camera takes of a scene, uint8 BGR.

    Args:
        scene: ``(H, W, 3)`` float32 BGR 0..1; left unchanged.
        response: of the camera.
        seed: of the data set.
        moment: keys of this picture's noise.
        drift: 0..1 through the day; the light's strength and colour change slowly along it.
    """
    rng = rng_for(seed, "exposure", *moment)
    height, width = scene.shape[:2]
    warm = 0.05 * np.sin(2 * np.pi * drift + 1.0)
    level = float(np.exp(0.08 * np.sin(2 * np.pi * drift) + rng.normal(0, 0.02)))
    matrix = np.array(response.matrix) * (level * np.exp([-warm, 0.0, warm]))[:, None]
    blur = response.blur_px * height / 224
    if response.resolution < 1:
        small = (round(width * response.resolution), round(height * response.resolution))
        scene = np.asarray(cv2.resize(scene, small, interpolation=cv2.INTER_AREA), np.float32)
        scene = np.asarray(cv2.resize(scene, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    if blur > 0.2:
        scene = np.asarray(cv2.GaussianBlur(scene, (0, 0), blur), np.float32)
    light = np.asarray(cv2.transform(scene, matrix.astype(np.float32)), np.float32)
    light *= _corner_mask((width, height), response.vignette)
    # 12 bits before the curve, as a sensor has: 8 would leave steps in the shadows.
    levels = np.clip(light * 4095, 0, 4095).astype(np.uint16)
    curve = (response.black + (1 - response.black) * (np.arange(4096) / 4095) ** response.gamma) * 255
    picture = curve.astype(np.float32)[levels]
    bank = _noise_bank(seed)
    offset = int(rng.integers(_NOISE // 4))
    grain = np.resize(bank[offset : offset + picture.size], picture.shape)
    picture += np.float32(response.noise) * grain
    return np.asarray(np.clip(picture + 0.5, 0, 255), np.uint8)


def jpeg(picture: NDArray[np.uint8], response: Response) -> bytes:
    """The picture as JPEG of the camera's quality."""
    done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, response.jpeg_quality])
    if not done:
        raise InputError(
            "this OpenCV cannot write JPEG", expected="a build with JPEG", remedy="pip install opencv-python"
        )
    return bytes(data.tobytes())
