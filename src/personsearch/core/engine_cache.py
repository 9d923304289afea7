"""The local cache of compiled engines: what was built here, for what, and whether it can run here.

An engine file is native code to TensorRT, and one that was built elsewhere may also simply not load. So engines never
travel: an artifact holds ONNX graphs, each machine builds from them into its own cache, and what is loaded must carry
the signature that this cache gave it. ``<cache>/engines/<key>/`` holds ``engine.bin``, ``engine.json`` (the sidecar,
an `EngineRecord`) and ``layers.json`` where a layer report could be made.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import platform
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from personsearch.core.errors import InputError
from personsearch.core.files import atomic_dir, atomic_file
from personsearch.core.recipe import StrictModel, validate

TensorRtName = Literal["tensorrt", "tensorrt-rtx"]
HardwareCompatibility = Literal["none", "ampere-plus", "same-compute-capability"]
CACHE_VARIABLE = "PERSON_SEARCH_CACHE"
ENGINE_FILE, RECORD_FILE, LAYERS_FILE = "engine.bin", "engine.json", "layers.json"


class BuildFlags(StrictModel):
    """What beside the graph decides about an engine."""

    version_compatible: bool = Field(default=False, description="runs on later TensorRT of the same or the next major")
    hardware_compatible: HardwareCompatibility = Field(default="none", description="runs on other GPUs, slower")
    dla_core: int | None = Field(default=None, ge=0, description="layers that can run there go to this DLA core")
    tf32: bool = Field(default=False, description="rounds fp32 products to ten bits of mantissa: faster, not fp32")
    optimisation_level: int | None = Field(default=None, ge=0, le=5, description="none for TensorRT's default")
    workspace_mib: int = Field(default=1024, gt=0, description="most scratch memory a layer may take")
    batch: tuple[int, int, int] | None = Field(
        default=None, description="fewest, usual and most frames, of a graph whose batch is not fixed"
    )


class EngineKey(StrictModel):
    """What an engine was built from and for; two builds of one key can stand in for each other."""

    library: TensorRtName
    version: str = Field(description="of the library")
    compute_capability: str = Field(pattern=r"^\d+\.\d$", description="of the GPU, as 8.6")
    gpu: str = Field(default="", description="its model; empty where any of the compute capability will do")
    platform: str = Field(description="operating system and processor")
    graph_sha256: str = Field(description="of the ONNX file")
    flags: BuildFlags = BuildFlags()

    @property
    def digest(self) -> str:
        """Name of the folder in the cache."""
        return hashlib.sha256(_canonical(self.model_dump(mode="json"))).hexdigest()[:32]


class EngineTensor(StrictModel):
    """An input or output of an engine."""

    name: str
    dtype: str
    shape: tuple[int, ...] = Field(description="-1 for a side that is not fixed")


class EngineRecord(StrictModel):
    """The sidecar of an engine."""

    format: Literal["personsearch-engine/1"] = "personsearch-engine/1"
    key: EngineKey
    graph: str = Field(description="file name of the ONNX graph")
    engine_sha256: str = ""
    engine_bytes: int = 0
    built: str = Field(description="ISO date and time, UTC")
    build_seconds: float
    gpu: str = Field(description="name of the GPU it was built on; empty where it was built without one")
    driver: str = Field(description="CUDA version of the driver; empty as above")
    inputs: tuple[EngineTensor, ...]
    outputs: tuple[EngineTensor, ...]
    layers: int = Field(description="of the parsed network, before fusion")
    dla_layers: int = Field(default=0, description="of these, how many can run on the DLA core")
    layer_report: str = Field(default="", description="file beside this with the engine's layers; empty if none")
    warnings: tuple[str, ...] = Field(default=(), description="of parser and builder")
    signature: str = Field(default="", description="by the cache that built it")


def cache_folder() -> Path:
    """``$PERSON_SEARCH_CACHE``, or a folder in the user's cache folder; it need not exist."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser()
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "edge-person-search"


def local_platform() -> str:
    """Operating system and processor, as `EngineKey` names them."""
    return f"{platform.system()}-{platform.machine()}".lower()


class EngineCache:
    """The engines that were built on this machine.

    Args:
        folder: of the cache, or none for `cache_folder`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = cache_folder() if folder is None else folder

    @property
    def folder(self) -> Path:
        """Of the cache."""
        return self._folder

    def place(self, key: EngineKey) -> Path:
        """Folder of the engine that ``key`` names, there or not."""
        return self._folder / "engines" / key.digest

    def store(self, record: EngineRecord, engine: bytes, layers: str = "") -> EngineRecord:
        """Signs a record and writes it with its engine, whole or not at all, in place of one of the same key.

        Args:
            record: what is known of it; hash, size, layer report's name and signature are filled in here.
            engine: as TensorRT serialised it.
            layers: JSON text of the layer report, or nothing.

        Returns:
            The record as it was written.

        Raises:
            InputError: the cache cannot be written to, or others can write to it.
        """
        record = record.model_copy(
            update={
                "engine_sha256": hashlib.sha256(engine).hexdigest(),
                "engine_bytes": len(engine),
                "layer_report": LAYERS_FILE if layers else "",
            }
        )
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self._folder / "engines").mkdir(mode=0o700, exist_ok=True)
            self._require_private()
            secret = self._secret(create=True)
            record = record.model_copy(update={"signature": _sign(record, secret)})
            with atomic_dir(self.place(record.key)) as part:
                part.chmod(0o700)
                (part / ENGINE_FILE).write_bytes(engine)
                if layers:
                    (part / LAYERS_FILE).write_text(layers, encoding="utf-8")
                content = json.dumps(record.model_dump(mode="json"), indent=2) + "\n"
                (part / RECORD_FILE).write_text(content, encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"the engine cache cannot be written: {error.strerror or error}",
                where=str(self._folder),
                remedy=f"set {CACHE_VARIABLE} to a folder of your own",
            ) from None
        return record

    def records(self) -> Iterator[tuple[Path, EngineRecord]]:
        """Every engine's folder and sidecar; a folder whose sidecar cannot be read is left out."""
        for path in sorted((self._folder / "engines").glob(f"*/{RECORD_FILE}")):
            try:
                yield path.parent, read_record(path)
            except InputError:
                continue

    def find(self, wanted: EngineKey) -> tuple[Path, EngineRecord] | None:
        """The engine built last of those that can run as ``wanted``, whatever options it was built with."""
        fitting = [found for found in self.records() if not mismatches(found[1].key, wanted)]
        return max(fitting, key=lambda found: found[1].built, default=None)

    def nearest(self, wanted: EngineKey) -> tuple[EngineRecord | None, str]:
        """Of the engines of the graph that cannot run as ``wanted``, the one with fewest reasons, and these."""
        others = [
            (record, reasons)
            for _, record in self.records()
            if record.key.graph_sha256 == wanted.graph_sha256 and record.key.library == wanted.library
            if (reasons := mismatches(record.key, wanted))
        ]
        if not others:
            return None, "none was built here from this graph"
        record, reasons = min(others, key=lambda found: (len(found[1]), found[0].built))
        return record, "; ".join(reasons)

    def load(self, folder: Path, record: EngineRecord) -> bytes:
        """An engine's bytes, which are the ones that this cache built.

        Raises:
            InputError: the file is missing or was changed, the sidecar was not signed by this cache, or others than its
                owner can write to the cache.
        """
        path = folder / ENGINE_FILE
        self._require_private()
        secret = self._secret(create=False)
        if not secret or not hmac.compare_digest(_sign(record, secret), record.signature):
            raise InputError("was not built by this cache", where=str(folder / RECORD_FILE), expected="a local build")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror or error}", where=str(path)) from None
        found = hashlib.sha256(content).hexdigest()
        if found != record.engine_sha256:
            raise InputError(
                f"has SHA-256 {found[:12]}..., its sidecar says {record.engine_sha256[:12]}...", where=str(path)
            )
        return content

    def timing_file(self, key: EngineKey) -> Path:
        """Where the times of tactics are kept, for all builds of one library on one kind of GPU."""
        return self._folder / "timing" / f"{key.library}-{key.version}-{key.compute_capability}-{key.platform}.bin"

    def keep_timings(self, key: EngineKey, content: bytes) -> None:
        """Writes the times of tactics, atomically."""
        path = self.timing_file(key)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with atomic_file(path) as part:
            part.write_bytes(content)

    def _secret(self, *, create: bool) -> bytes:
        """What signs the sidecars: it never leaves the cache, so that an engine of another machine has no signature."""
        path = self._folder / "signing.key"
        if create and not path.exists():
            with atomic_file(path) as part:
                part.touch(mode=0o600)
                part.write_bytes(secrets.token_bytes(32))
        return path.read_bytes() if path.is_file() else b""

    def _require_private(self) -> None:
        """Who can write to the folder can put another engine and another key there."""
        if sys.platform == "win32":
            return
        for folder in (self._folder, self._folder / "engines"):
            state = folder.stat()
            if state.st_mode & 0o022 or state.st_uid not in (0, os.geteuid()):
                raise InputError(
                    "others can write to the engine cache",
                    where=str(folder),
                    expected="a folder of your own that nobody else can write to",
                    remedy=f"chmod go-w {folder}, or set {CACHE_VARIABLE} to another",
                )


def read_record(path: Path) -> EngineRecord:
    """Reads a sidecar.

    Raises:
        InputError: it cannot be read, or is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError("cannot be read", where=str(path), expected="JSON", remedy=str(error)) from None
    return validate(EngineRecord, content, where=str(path))


def mismatches(built: EngineKey, wanted: EngineKey) -> list[str]:
    """Why an engine built for one key cannot run as another, a reason an entry; empty where it can."""
    if built.graph_sha256 != wanted.graph_sha256:
        return [f"built from another graph ({built.graph_sha256[:12]}...)"]
    if built.library != wanted.library:
        return [f"built by {built.library}"]
    reasons = []
    if built.version != wanted.version and not (built.flags.version_compatible and _runs_on(built, wanted)):
        reasons.append(f"built by {built.library} {built.version}, here is {wanted.version}")
    if built.platform != wanted.platform:
        reasons.append(f"built on {built.platform}, this is {wanted.platform}")
    if built.compute_capability != wanted.compute_capability and not (
        built.flags.hardware_compatible == "ampere-plus" and _capability(wanted) >= (8, 0) <= _capability(built)
    ):
        reasons.append(
            f"built for compute capability {built.compute_capability}, this GPU has {wanted.compute_capability}"
        )
    elif built.gpu and built.gpu != wanted.gpu:
        reasons.append(f"built on {built.gpu}, this GPU is {wanted.gpu}")
    return reasons


def _runs_on(built: EngineKey, wanted: EngineKey) -> bool:
    """Version-compatible engines load from their own version on, and on the next major (NVIDIA's table: 10 on 11)."""
    old, new = (tuple(int(part) for part in key.version.split(".")[:2]) for key in (built, wanted))
    return (old[0] == new[0] and old <= new) or new[0] == old[0] + 1


def _capability(key: EngineKey) -> tuple[int, int]:
    major, minor = key.compute_capability.split(".")
    return int(major), int(minor)


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _sign(record: EngineRecord, secret: bytes) -> str:
    content = record.model_copy(update={"signature": ""}).model_dump(mode="json")
    return hmac.new(secret, _canonical(content), hashlib.sha256).hexdigest()
