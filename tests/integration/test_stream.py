"""``personsearch stream`` as a user meets it: exit codes, one clear line, Ctrl-C, and no torch."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import runtime_stub as stub

SECRET = "hunter2"
# `personsearch` as the base install runs it: an import of what it does not have is an error.
BASE_INSTALL = """
import sys
import threading
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in "torch torchvision lightning onnx scipy matplotlib tensorrt_rtx".split():
            raise ModuleNotFoundError(f"the base install has no {name}")
sys.meta_path.insert(0, Refuse())
from personsearch.cli import main
main()
"""


def personsearch(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BASE_INSTALL, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        text=True,
        capture_output=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact, a video, a picture of the person, and broken things."""
    root = tmp_path_factory.mktemp("stream")
    stub.write_artifact(root / "art")
    stub.write_artifact(root / "changed")
    with (root / "changed" / "search.onnx").open("ab") as file:
        file.write(b"x")
    stub.write_video(root / "walk.mp4", stub.walk(30), rate_hz=10)
    content = (root / "walk.mp4").read_bytes()
    (root / "cut.mp4").write_bytes(content[: len(content) // 2])
    (root / "empty.mp4").write_bytes(b"")
    (root / "notes").mkdir()
    (root / "notes" / "keep.txt").write_text("mine")
    cv2.imwrite(str(root / "red.png"), stub.scene((0, stub.RED)))
    return root


def listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_the_whole_way_without_torch(folder: Path) -> None:
    result = personsearch(
        "stream", "art", "--source", "walk.mp4", "--query", "anna=red.png#16,12,48,36", "--out", "found", cwd=folder
    )
    assert result.returncode == 0, result.stderr
    assert "Searched 30 frames of walk.mp4" in result.stdout
    assert "anna: 1 visit" in result.stdout
    assert "0:01.0 to 0:01.9  10 frames" in result.stdout
    assert len((folder / "found" / "matches.jsonl").read_text().splitlines()) == 10
    assert (folder / "found" / "annotated.mp4").stat().st_size > 1000


def test_json_is_the_summary_and_nothing_else(folder: Path) -> None:
    result = personsearch(
        "stream",
        "art",
        "--source",
        "walk.mp4",
        "--query",
        "red.png",
        "--out",
        "json",
        "--json",
        "--no-video",
        "--max-frames",
        "12",
        "--threshold",
        "0.5",
        cwd=folder,
    )
    summary = json.loads(result.stdout)
    assert summary == json.loads((folder / "json" / "summary.json").read_text())
    assert (summary["ended_by"], summary["frames"]["processed"]) == ("max_frames", 12)
    assert summary["settings"]["threshold"] == 0.5


def test_doctor_without_torch(folder: Path) -> None:
    result = personsearch("doctor", "--json", cwd=folder)
    assert json.loads(result.stdout)["versions"]["onnxruntime"]
    assert result.returncode == (0 if json.loads(result.stdout)["works"] else 1)


GOOD = {"artifact": "art", "source": "walk.mp4", "query": "red.png", "out": "never"}
BAD = [
    ({"source": "gone.mp4"}, "gone.mp4: does not exist"),
    ({"source": "cut.mp4"}, "cut.mp4"),
    ({"source": "empty.mp4"}, "empty.mp4: cannot be opened as a video"),
    ({"source": "notes"}, "holds no image"),
    ({"source": f"rtsp://admin:{SECRET}@127.0.0.1:9/x?k={SECRET}"}, "rtsp://***@127.0.0.1:9/x?***: cannot be opened"),
    ({"source": "env:UNSET_ADDRESS"}, "`UNSET_ADDRESS` is not set"),
    ({"query": "gone.png"}, "image `gone.png` does not exist"),
    ({"query": "red.png#500,500,600,600"}, "lies outside the image"),
    ({"query": "red.png#10,10,10,50"}, "has no area"),
    ({"query": "red.png#1,2,3"}, "x1,y1,x2,y2"),
    ({"artifact": "gone"}, "is not an artifact"),
    ({"artifact": "notes"}, "is not an artifact"),
    ({"artifact": "changed"}, "SHA-256"),
    ({"out": "notes"}, "holds other files"),
    ({"out": "walk.mp4"}, "is a file"),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_one_line_and_leaves_nothing(
    folder: Path,
    change: dict[str, str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    import personsearch.cli

    arguments = {**GOOD, **change}
    before = listing(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "personsearch",
            "stream",
            arguments["artifact"],
            "--source",
            arguments["source"],
            "--query",
            arguments["query"],
            "--out",
            arguments["out"],
        ],
    )
    with pytest.raises(SystemExit) as exit_:
        personsearch.cli.main()
    captured = capfd.readouterr()
    assert exit_.value.code == 2
    assert captured.out == ""
    assert len(captured.err.strip().splitlines()) == 1, captured.err
    assert message in captured.err
    assert SECRET not in captured.err
    assert listing(folder) == before


def test_a_broken_frame_midway_leaves_nothing(folder: Path) -> None:
    frames = folder / "broken"
    frames.mkdir()
    for index in range(5):
        cv2.imwrite(str(frames / f"{index:03d}.jpg"), stub.scene((0, stub.RED)))
    content = (frames / "003.jpg").read_bytes()
    (frames / "003.jpg").write_bytes(content[: len(content) // 2])
    before = listing(folder)
    search = ("stream", "art", "--source", "broken/%03d.jpg", "--query", "red.png")
    result = personsearch(*search, "--out", "never", cwd=folder)
    assert result.returncode == 2
    assert "003.jpg: is cut short" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert listing(folder) == before
    kept = personsearch(*search, "--out", "kept", "--keep-going", cwd=folder)
    assert kept.returncode == 0
    assert "Searched 4 frames" in kept.stdout
    assert "note: passed over" in kept.stdout


def start_endless(folder: Path, out: str) -> subprocess.Popen[str]:
    """A search that would take minutes: a long video played at its own speed."""
    if not (folder / "long.mp4").exists():
        stub.write_video(folder / "long.mp4", [stub.scene((0, stub.RED))] * 1500, rate_hz=10)
    # A shell may start background jobs with SIGINT ignored; a terminal does not.
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            BASE_INSTALL,
            "stream",
            "art",
            "--source",
            "long.mp4",
            "--mode",
            "latest",
            "--query",
            "red.png",
            "--save-crops",
            "--out",
            out,
        ],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_publishes_what_was_found(folder: Path, number: signal.Signals) -> None:
    out = f"stopped-{number.name}"
    process = start_endless(folder, out)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not _some_matches(folder, out):
        time.sleep(0.05)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "stopped before its end" in stdout
    assert "Traceback" not in stderr
    summary = json.loads((folder / out / "summary.json").read_text())
    matches = (folder / out / "matches.jsonl").read_text().splitlines()
    assert summary["ended_by"] == "user"
    assert len(matches) == summary["frames"]["processed"] > 0
    assert json.loads(matches[-1])["query"] == "red"
    capture = cv2.VideoCapture(str(folder / out / "annotated.mp4"))
    assert np.asarray(capture.read()[1]).shape == (96, 128, 3)
    assert not [name for name in listing(folder) if name.startswith(".")]


def _some_matches(folder: Path, out: str) -> bool:
    # The folder appears when all is done; until then it grows in a hidden one beside it.
    return any(True for _ in folder.glob(f".{out}.*/crops/red/*.jpg"))


class _Camera(http.server.BaseHTTPRequestHandler):
    """A network camera: thirty JPEG pictures, then it hangs up; after `connections` times it is gone."""

    connections = 1

    def do_GET(self) -> None:
        if self.connections == 0:
            self.send_error(503)
            return
        type(self).connections -= 1
        picture = cv2.imencode(".jpg", stub.scene((0, stub.RED)))[1].tobytes()
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.end_headers()
        for _ in range(30):
            self.wfile.write(b"--next\r\nContent-Type: image/jpeg\r\n")
            self.wfile.write(f"Content-Length: {len(picture)}\r\n\r\n".encode() + picture + b"\r\n")
            time.sleep(0.02)

    def log_message(self, format: str, *args: object) -> None:
        """Keeps the test's output clean."""


def _watch_camera(folder: Path, out: str, connections: int, *options: str) -> tuple[dict[str, Any], str]:
    """Summary and standard error of a search at such a camera, whose password is nowhere."""
    camera = type("Camera", (_Camera,), {"connections": connections})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), camera) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://admin:{SECRET}@127.0.0.1:{server.server_port}/live?token={SECRET}"
        arguments = ["stream", "art", "--source", "env:CAMERA_URL", "--query", "red.png", "--out", out, "--json"]
        result = personsearch(*arguments, *options, cwd=folder, CAMERA_URL=address)
        server.shutdown()
    assert result.returncode == 0, result.stderr
    assert SECRET not in result.stdout + result.stderr
    assert not any(SECRET.encode() in path.read_bytes() for path in (folder / out).iterdir())
    summary: dict[str, Any] = json.loads(result.stdout)
    return summary, result.stderr


def test_a_network_camera(folder: Path) -> None:
    summary, _ = _watch_camera(folder, "camera", 1, "--reconnect", "0")
    frames = summary["frames"]
    assert summary["source"]["live"]
    assert summary["settings"]["mode"] == "latest"
    assert frames["processed"] + frames["dropped"] == frames["decoded"] > 0
    assert "the live source ended or stalled" in summary["notes"]


def test_a_network_camera_that_is_lost_is_watched_on(folder: Path) -> None:
    summary, said = _watch_camera(folder, "lost", 2, "--reconnect", "2", "--mode", "every")
    assert summary["frames"]["decoded"] == summary["frames"]["processed"] == 60
    assert summary["ended_by"] == "source"
    assert any(line.startswith("the connection was lost once, without a frame for ") for line in summary["notes"])
    assert "the live source ended or stalled, and did not come back within 2 s" in summary["notes"]
    assert "no frames any more, trying again for 2 s" in said
    assert ": back after " in said
