"""Image files as cameras, tools and archives leave them: every kind becomes 8-bit BGR the right way up, or one line."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from personsearch.core.errors import InputError
from personsearch.data.images import read_image_bgr, read_reduced_bgr
from personsearch.data.sample import Frame

WH = (48, 32)


def scene() -> Frame:
    """Smooth, so that JPEG keeps it, and unlike any of its own turns and mirror images."""
    x, y = np.meshgrid(np.linspace(0, 1, WH[0]), np.linspace(0, 1, WH[1]))
    return np.rint(255 * np.stack([x, y, (x * y + (1 - x) ** 2) / 2], axis=2)).astype(np.uint8)


def jpeg(frame: Frame, orientation: int = 1) -> bytes:
    """A JPEG whose EXIF block says how the camera was held."""
    content = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    block = b"Exif\0\0II*\0" + struct.pack("<I", 8) + struct.pack("<H", 1) + entry + struct.pack("<I", 0)
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + content[2:]


def stored(upright: Frame, orientation: int) -> Frame:
    """What the sensor saved for an upright picture (EXIF 2.32, tag 274: where row 0 and column 0 of the file lie)."""
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    return np.ascontiguousarray(turned)


def palette_png(indices: Frame, palette_rgb: Frame) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    height, width = indices.shape
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in indices)
    parts = [(b"IHDR", head), (b"PLTE", palette_rgb.tobytes()), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def close(first: Frame, second: Frame) -> bool:
    return first.shape == second.shape and float(np.abs(first.astype(int) - second).mean()) < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(stored(scene(), orientation), orientation))
    assert close(read_image_bgr(path, WH), scene())
    assert close(read_image_bgr(path), scene())
    assert close(read_reduced_bgr(path, WH, 2), cv2.resize(scene(), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_labels_drawn_on_the_unturned_pixels_get_those(tmp_path: Path, orientation: int) -> None:
    pixels = stored(scene(), orientation)
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(pixels, orientation))
    assert close(read_image_bgr(path, (WH[1], WH[0])), pixels)
    half = cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    assert close(read_reduced_bgr(path, (WH[1], WH[0]), 2), half)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_cut_to_the_upper_eight(tmp_path: Path, suffix: str, channels: int) -> None:
    deep = np.random.default_rng(0).integers(0, 2**16, (*WH[::-1], channels)).astype(np.uint16).squeeze()
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), deep)
    expected = (deep >> 8).astype(int)
    if channels == 1:
        expected = np.repeat(expected[..., None], 3, axis=2)
    assert np.abs(read_image_bgr(path, WH) - expected).max() <= 1  # OpenCV rounds colour TIFFs


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".jpg", ".bmp"])
def test_grey_becomes_bgr(tmp_path: Path, suffix: str) -> None:
    grey = np.ascontiguousarray(scene()[..., 0])
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), grey)
    assert close(read_image_bgr(path, WH), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_alpha_is_left_out(tmp_path: Path, suffix: str) -> None:
    alpha = np.random.default_rng(1).integers(0, 256, (*WH[::-1], 1), dtype=np.uint8)
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), np.concatenate([scene(), alpha], axis=2))
    np.testing.assert_array_equal(read_image_bgr(path, WH), scene())


def test_a_palette_becomes_its_colours(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    palette = rng.integers(0, 256, (7, 3), dtype=np.uint8)
    indices = rng.integers(0, 7, WH[::-1], dtype=np.uint8)
    path = tmp_path / "a.png"
    path.write_bytes(palette_png(indices, palette))
    np.testing.assert_array_equal(read_image_bgr(path, WH), palette[indices][..., ::-1])


@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_a_reduced_jpeg_is_the_whole_one_averaged(tmp_path: Path, reduction: int) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(scene()))
    small = read_reduced_bgr(path, WH, reduction)
    factor = 1 / reduction
    assert close(small, cv2.resize(scene(), None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))


def test_other_formats_are_read_whole_where_a_reduction_is_asked_for(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), scene())
    np.testing.assert_array_equal(read_reduced_bgr(tmp_path / "a.png", WH, 2), scene())


@pytest.mark.parametrize(("wh", "reduction"), [(WH, 3), (WH, 1), ((46, 32), 4), ((48, 30), 4)])
def test_a_reduction_that_would_move_boxes_is_a_bug(tmp_path: Path, wh: tuple[int, int], reduction: int) -> None:
    with pytest.raises(ValueError, match="expected 2, 4 or 8 that divides both sides"):
        read_reduced_bgr(tmp_path / "a.jpg", wh, reduction)


def test_what_cannot_be_read_is_one_line_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "bad.jpg"
    wrong = "is not an image that can be decoded"
    for content in (b"", b"no image", jpeg(scene())[:150]):
        path.write_bytes(content)
        for read in (lambda: read_image_bgr(path, WH), lambda: read_reduced_bgr(path, WH, 2)):
            with pytest.raises(InputError, match=f"bad.jpg: {wrong}"):
                read()
    with pytest.raises(InputError, match="image file cannot be read"):
        read_image_bgr(tmp_path / "none.jpg")
    with pytest.raises(InputError, match="image file cannot be read"):
        read_image_bgr(tmp_path)
    path.write_bytes(jpeg(scene()))
    for read in (lambda: read_image_bgr(path, (96, 64)), lambda: read_reduced_bgr(path, (96, 64), 2)):
        with pytest.raises(InputError, match="image is 48x32; expected 96x64 as the annotations say"):
            read()
