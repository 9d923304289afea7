"""A camera that is lost and found again."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest

from personsearch.core.errors import InputError
from personsearch.runtime.frames import VideoFrame
from personsearch.runtime.reconnecting import ReconnectingSource
from personsearch.runtime.sources import open_source


class Camera:
    """A live source of so many frames, one of them broken."""

    label, live, frame_count, rate_hz = "camera 0", True, None, 25.0

    def __init__(self, frames: int) -> None:
        self.left, self.broken_count, self.closed = frames, int(frames > 0), 0
        self.notes: list[str] = []

    def read(self) -> VideoFrame | None:
        assert not self.closed, "read after it was closed"
        if self.left == 0:
            return None
        self.left -= 1
        return VideoFrame(0, 0.0, np.full((4, 4, 3), self.left, np.uint8))

    def interrupt(self) -> None:
        """Is not waiting for anything."""

    def close(self) -> None:
        self.closed += 1


class Street:
    """Gives one camera after another; `None` is one that does not open. Remembers when it was asked."""

    def __init__(self, *frames: int | None) -> None:
        self.cameras = [None if count is None else Camera(count) for count in frames]
        self.asked: list[float] = []
        self.given: list[Camera] = []

    def __call__(self) -> Camera:
        self.asked.append(time.monotonic())
        camera = self.cameras[len(self.asked) - 1] if len(self.asked) <= len(self.cameras) else None
        if camera is None:
            raise InputError("cannot be opened", where="camera 0")
        self.given.append(camera)
        return camera


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("personsearch.runtime.reconnecting._FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr("personsearch.runtime.reconnecting._LONGEST_PAUSE_S", 0.08)


def read_all(source: ReconnectingSource) -> list[VideoFrame]:
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame)
    return frames


def test_frames_and_times_go_on_over_several_connections() -> None:
    street, first, said = Street(None, 2, 0, 3), Camera(4), list[str]()
    source = ReconnectingSource(first, street, patience_s=0.4, tell=said.append)
    frames = read_all(source)
    assert [frame.index for frame in frames] == list(range(9))
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [3, 2, 1, 0, 1, 0, 2, 1, 0]
    times = [frame.timestamp_s for frame in frames]
    assert times == sorted(times)
    assert times[0] == 0
    assert times[4] - times[3] >= 0.06, "the pause of the stream is in its times: 0.02 s, refused, 0.04 s"
    assert source.broken_count == 3
    assert source.notes == [
        f"the connection was lost 2 times, without a frame for {sum(source._pauses_s):.1f} s in all",
        "the live source ended or stalled, and did not come back within 0.4 s",
    ]
    assert [line.split(",")[0].split(" after")[0] for line in said] == [
        *["camera 0: no frames any more", "camera 0: back"] * 2,
        "camera 0: no frames any more",
    ]
    assert [camera.closed for camera in (first, *street.given)] == [1, 1, 1, 1]


def test_it_is_given_up_after_its_patience_and_asked_ever_more_rarely() -> None:
    street = Street()
    started = time.monotonic()
    assert read_all(ReconnectingSource(Camera(1), street, patience_s=0.5)) != []
    assert 0.5 <= time.monotonic() - started < 5
    pauses = np.diff(street.asked)
    assert pauses[0] >= 0.04
    assert (pauses[2:-1] >= 0.08).all()
    assert len(street.asked) <= 9


def test_a_camera_that_opens_and_gives_nothing_is_not_asked_without_pause() -> None:
    street = Street(*[0] * 1000)
    source = ReconnectingSource(Camera(1), street, patience_s=0.3)
    assert len(read_all(source)) == 1
    assert len(street.asked) <= 7
    assert all(camera.closed == 1 for camera in street.given)


@pytest.mark.parametrize("end", ["interrupt", "close"])
def test_a_wait_ends_at_once_when_nobody_wants_more(end: str) -> None:
    source = ReconnectingSource(Camera(0), Street(), patience_s=60)
    threading.Timer(0.1, getattr(source, end)).start()
    started = time.monotonic()
    assert source.read() is None
    assert time.monotonic() - started < 5
    assert source.notes == []


@pytest.mark.parametrize("patience_s", [0.0, -1.0, float("nan"), float("inf")])
def test_patience_is_a_time(patience_s: float) -> None:
    with pytest.raises(ValueError, match="patience"):
        ReconnectingSource(Camera(1), Street(), patience_s=patience_s)


def _picture(number: int) -> bytes:
    return bytes(cv2.imencode(".jpg", np.full((48, 64, 3), 20 * number, np.uint8))[1])


@pytest.fixture
def address() -> Iterator[Callable[[list[int]], str]]:
    """Starts a camera that sends JPEG after JPEG over HTTP, and hangs up after so many, connection by connection."""
    servers = []

    def start(connections: list[int]) -> str:
        left = iter(connections)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                count = next(left, None)
                if count is None:
                    self.send_error(503)
                    return
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
                self.end_headers()
                for number in range(count):
                    body = _picture(number)
                    self.wfile.write(b"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(body))
                    self.wfile.write(body + b"\r\n")

            def log_message(self, format: str, *args: object) -> None:
                """Keeps the test's output clean."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://me:secret@127.0.0.1:{server.server_port}/video"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_network_camera_that_hangs_up_is_read_on(address: Callable[[list[int]], str]) -> None:
    said = list[str]()
    source = open_source(address([6, 5]), reconnect_s=0.3, tell=said.append)
    assert isinstance(source, ReconnectingSource)
    frames = read_all(source)
    source.close()
    assert [frame.index for frame in frames] == list(range(11))
    assert len(said) == 3
    assert "secret" not in " ".join([*said, *source.notes, source.label])


def test_without_patience_a_network_camera_ends_where_it_hangs_up(address: Callable[[list[int]], str]) -> None:
    source = open_source(address([6, 5]))
    assert source.live
    frames = 0
    while source.read() is not None:
        frames += 1
    source.close()
    assert frames == 6
    assert source.notes == ["the live source ended or stalled"]


@pytest.mark.parametrize("reconnect_s", [-1.0, float("nan"), float("inf")])
def test_an_impossible_patience_is_refused(reconnect_s: float) -> None:
    with pytest.raises(InputError, match="reconnect is"):
        open_source("0", reconnect_s=reconnect_s)
