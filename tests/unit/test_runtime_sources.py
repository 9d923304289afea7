"""Sources: what a user can type, and what each kind of broken input says."""

from __future__ import annotations

import functools
import http.server
import socket
import struct
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import runtime_stub as stub

from personsearch.core.errors import InputError
from personsearch.runtime.address import redact, resolve_address
from personsearch.runtime.container import missing_bytes
from personsearch.runtime.frames import Source, VideoFrame
from personsearch.runtime.image_source import read_image
from personsearch.runtime.sources import open_source
from personsearch.runtime.video_source import LiveSource


def read_all(source: Source) -> list[VideoFrame]:
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame)
    source.close()
    return frames


def numbered(folder: Path, numbers: list[int]) -> Path:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        cv2.imwrite(str(folder / f"{number:06d}.png"), np.full((8, 8, 3), number, np.uint8))
    return folder


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    noise = np.random.default_rng(0).integers(0, 255, (200, 48, 64, 3), dtype=np.uint8)
    return stub.write_video(tmp_path_factory.mktemp("video") / "noise.mp4", list(noise), rate_hz=20)


def test_video_gives_every_frame_with_its_time(video: Path) -> None:
    source = open_source(str(video))
    frames = read_all(source)
    assert (source.frame_count, source.rate_hz, source.live) == (200, 20, False)
    assert [frame.index for frame in frames] == list(range(200))
    np.testing.assert_allclose([frame.timestamp_s for frame in frames], np.arange(200) / 20, atol=1e-3)


def test_rate_overrides_the_times_of_a_video(video: Path) -> None:
    assert read_all(open_source(str(video), rate_hz=10))[30].timestamp_s == pytest.approx(3.0)


def test_file_url_is_a_path(video: Path) -> None:
    assert open_source(f"file://{video}").frame_count == 200


@pytest.mark.parametrize("numbers", [[1, 2, 3], [1, 3, 5], [7, 8, 20, 21]])
def test_pattern_follows_the_numbers_that_exist(tmp_path: Path, numbers: list[int]) -> None:
    numbered(tmp_path, numbers)
    cv2.imwrite(str(tmp_path / "9.png"), np.zeros((8, 8, 3), np.uint8))  # not %06d
    source = open_source(str(tmp_path / "%06d.png"), rate_hz=5)
    frames = read_all(source)
    assert source.frame_count == len(numbers)
    assert [int(frame.image[0, 0, 0]) for frame in frames] == numbers
    assert [frame.name for frame in frames] == [f"{number:06d}.png" for number in numbers]
    np.testing.assert_allclose([frame.timestamp_s for frame in frames], (np.array(numbers) - numbers[0]) / 5)


def test_pattern_of_every_second_number_plays_at_half_the_rate(tmp_path: Path) -> None:
    assert open_source(str(numbered(tmp_path, [1, 3, 5]) / "%06d.png"), rate_hz=7).rate_hz == 3.5


def test_pattern_keeps_other_percent_signs(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "50%_3.png"), np.zeros((8, 8, 3), np.uint8))
    assert len(read_all(open_source(str(tmp_path / "50%%_%d.png")))) == 1


def test_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    for name in ("b10.png", "b2.png", "a.png", "notes.txt"):
        (tmp_path / name).write_bytes(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    assert [frame.name for frame in read_all(open_source(str(tmp_path)))] == ["a.png", "b2.png", "b10.png"]


def test_single_image(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "one.png"), stub.scene((0, stub.RED)))
    frames = read_all(open_source(str(tmp_path / "one.png")))
    assert [(frame.index, frame.timestamp_s) for frame in frames] == [(0, 0.0)]


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    tall = np.zeros((16, 40, 3), np.uint8)
    tall[:, :8] = 255
    jpeg = cv2.imencode(".jpg", tall)[1].tobytes()
    # Orientation 6: turn a quarter to the right, so that the bright left edge becomes the top.
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b"Exif\0\0" + tiff
    path = tmp_path / "phone.jpg"
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:])
    image = read_image(path)
    assert image.shape == (40, 16, 3)
    assert image[0, 8].min() > 200 > image[39, 8].max()


def test_grey_and_transparent_images_become_bgr(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((5, 6), 70, np.uint8))
    cv2.imwrite(str(tmp_path / "alpha.png"), np.full((5, 6, 4), 70, np.uint8))
    for name in ("grey.png", "alpha.png"):
        image = read_image(tmp_path / name)
        assert image.shape == (5, 6, 3)
        assert image.dtype == np.uint8


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_an_image_cut_short(tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]) -> None:
    content = cv2.imencode(suffix, np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))[1].tobytes()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="cut short"):
        read_image(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("content", [b"", b"text", b"GIF89a"])
def test_an_image_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(InputError, match="not an image"):
        read_image(tmp_path / "x.png")


def test_a_broken_image_in_a_sequence(tmp_path: Path) -> None:
    numbered(tmp_path, [1, 2, 3])
    (tmp_path / "000002.png").write_bytes(b"")
    source = open_source(str(tmp_path / "%06d.png"))
    assert source.read() is not None
    with pytest.raises(InputError, match=r"000002\.png.*--keep-going"):
        source.read()
    kept = open_source(str(tmp_path / "%06d.png"), keep_going=True)
    assert [frame.index for frame in read_all(kept)] == [0, 2]
    assert kept.broken_count == 1
    assert "000002.png" in kept.notes[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("missing.mp4", r"missing\.mp4: does not exist"),
        ("empty", "holds no image"),
        ("empty/%06d.jpg", "no file is named"),
        ("gone/%06d.jpg", "folder does not exist"),
        ("empty/%d_%d.jpg", "not a pattern"),
        ("text.mp4", "cannot be opened"),
        ("env:NO_SUCH_VARIABLE_HERE", "NO_SUCH_VARIABLE_HERE"),
        ("", "does not exist"),
        ("9999", "camera 9999"),
    ],
)
def test_sources_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("text.mp4").write_text("this is no video")
    with pytest.raises(InputError, match=message):
        open_source(text)


@pytest.mark.parametrize("rate_hz", [0.0, -1.0, float("nan"), float("inf")])
def test_rates_that_are_none(rate_hz: float) -> None:
    with pytest.raises(InputError, match="rate"):
        open_source("any.mp4", rate_hz=rate_hz)


def faststart(content: bytes) -> bytes:
    """An MP4 whose index comes first, as cameras and web sites write them: it opens even when cut short."""
    boxes, position = {}, 0
    while position < len(content):
        length, kind = struct.unpack(">I4s", content[position : position + 8])
        boxes[kind] = content[position : position + length]
        position += length
    moov = bytearray(boxes[b"moov"])
    start = moov.index(b"stco") + 8
    count = struct.unpack(">I", moov[start : start + 4])[0]
    for index in range(count):
        at = start + 4 + 4 * index
        moov[at : at + 4] = struct.pack(">I", struct.unpack(">I", moov[at : at + 4])[0] + len(moov))
    return boxes[b"ftyp"] + bytes(moov) + boxes.get(b"free", b"") + boxes[b"mdat"]


@pytest.mark.parametrize("kept", [0.5, 0.9, 0.999])
def test_a_video_cut_short_is_refused_before_decoding(tmp_path: Path, video: Path, kept: float) -> None:
    whole = faststart(video.read_bytes())
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole)
    assert missing_bytes(path) == 0
    assert len(read_all(open_source(str(path)))) == 200
    path.write_bytes(whole[: int(len(whole) * kept)])
    assert missing_bytes(path) == len(whole) - int(len(whole) * kept)
    with pytest.raises(InputError, match=r"cut short.*bytes more.*--keep-going"):
        open_source(str(path))
    source = open_source(str(path), keep_going=True)
    assert 0 < len(read_all(source)) <= 200
    assert any("cut short" in note for note in source.notes)


def test_an_avi_cut_short(tmp_path: Path) -> None:
    path = stub.write_video(tmp_path / "a.avi", stub.walk(20), codec="MJPG")
    content = path.read_bytes()
    assert missing_bytes(path) == 0
    path.write_bytes(content[:-100])
    assert missing_bytes(path) == 100


def test_frames_that_cannot_be_decoded_count_as_missing(tmp_path: Path, video: Path) -> None:
    """A file of the right length whose later part is zeros, as a download that was never finished leaves it."""
    whole = faststart(video.read_bytes())
    path = tmp_path / "hole.mp4"
    path.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    source = open_source(str(path))
    with pytest.raises(InputError, match=r"after \d+ of 200 frames.*--keep-going"):
        read_all(source)
    kept = open_source(str(path), keep_going=True)
    assert 0 < len(read_all(kept)) < 160
    assert any("of 200 frames" in note for note in kept.notes)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        b"\0\0\0\x08ftyp",
        b"\0\0\0\1mdat",
        b"\0\0\0\0mdat",
        b"RIFF\0\0\0\0AVI ",
    ],
)
def test_container_check_survives_anything(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    assert missing_bytes(tmp_path / "x") >= 0


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://10.0.0.1:554/live", "rtsp://10.0.0.1:554/live"),
        ("rtsp://admin:secret@10.0.0.1/live", "rtsp://***@10.0.0.1/live"),
        ("RTSP://a@b.c:se/cr@t?@cam/x", "RTSP://***@cam/x"),
        ("http://cam/video?user=secret&pwd=secret", "http://cam/video?***"),
        ("http://cam/video#secret", "http://cam/video?***"),
        ("video.mp4", "video.mp4"),
        ("dir/me@home.mp4", "dir/me@home.mp4"),
    ],
)
def test_redact(address: str, shown: str) -> None:
    assert redact(address) == shown
    assert "secret" not in redact(address)


def test_a_camera_that_does_not_answer_keeps_its_password(capfd: pytest.CaptureFixture[str]) -> None:
    address = "rtsp://admin:secret@127.0.0.1:9/live?token=secret"
    with pytest.raises(InputError, match=r"rtsp://\*\*\*@127\.0\.0\.1:9/live") as raised:
        LiveSource(address, rate_hz=None, timeout_s=1.0)
    captured = capfd.readouterr()
    assert "secret" not in str(raised.value) + captured.out + captured.err


def test_a_camera_that_accepts_and_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"rtsp://127.0.0.1:{server.getsockname()[1]}/live"
        with pytest.raises(InputError, match="gave up after at most 1 s"):
            LiveSource(address, rate_hz=None, timeout_s=1.0)


class _FileServer(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Keeps the test's output clean."""


def test_an_address_shares_the_path_of_a_camera(tmp_path: Path, video: Path) -> None:
    """A file behind http has a length, so nothing of it is dropped."""
    (tmp_path / "noise.mp4").write_bytes(faststart(video.read_bytes()))
    handler = functools.partial(_FileServer, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = open_source(f"http://me:secret@127.0.0.1:{server.server_port}/noise.mp4?key=secret")
        frames = read_all(source)
        server.shutdown()
    assert len(frames) == 200
    assert not source.live
    assert "secret" not in source.label + repr(source)


def test_address_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMERA_URL", "rtsp://u:p@h/x")
    assert resolve_address("env:CAMERA_URL") == "rtsp://u:p@h/x"
    assert resolve_address("environment.mp4") == "environment.mp4"
