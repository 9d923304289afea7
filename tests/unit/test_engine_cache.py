"""The engine cache: what was built here is found and loaded, anything else is refused with the reason."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from pathlib import Path

import pytest

from personsearch.core.engine_cache import (
    BuildFlags,
    EngineCache,
    EngineKey,
    EngineRecord,
    cache_folder,
    mismatches,
)
from personsearch.core.errors import InputError

KEY = EngineKey(
    library="tensorrt",
    version="10.3.0",
    compute_capability="8.7",
    gpu="Orin",
    platform="linux-aarch64",
    graph_sha256="ab" * 32,
)


def key(**changes: object) -> EngineKey:
    return EngineKey.model_validate({**KEY.model_dump(), **changes})


def record(wanted: EngineKey = KEY, built: str = "2026-01-01T00:00:00") -> EngineRecord:
    return EngineRecord(
        key=wanted,
        graph="search.onnx",
        built=built,
        build_seconds=1,
        gpu="",
        driver="",
        inputs=(),
        outputs=(),
        layers=3,
    )


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "cache")


def test_nothing_is_there_at_first(cache: EngineCache) -> None:
    assert cache.find(KEY) is None
    assert cache.nearest(KEY) == (None, "none was built here from this graph")
    assert not cache.folder.exists()


def test_what_was_stored_is_found_and_loaded(cache: EngineCache) -> None:
    stored = cache.store(record(), b"engine", '{"Layers": []}')
    found = cache.find(KEY)
    assert found is not None
    folder, sidecar = found
    assert sidecar == stored
    assert cache.load(folder, sidecar) == b"engine"
    assert sorted(path.name for path in folder.iterdir()) == ["engine.bin", "engine.json", "layers.json"]
    assert sidecar.engine_bytes == 6
    assert (sidecar.layer_report, sidecar.graph) == ("layers.json", "search.onnx")


def test_storing_again_replaces_the_whole(cache: EngineCache) -> None:
    cache.store(record(), b"old", '{"Layers": []}')
    cache.store(record(), b"new")
    folder, sidecar = cache.find(KEY) or pytest.fail("not found")
    assert cache.load(folder, sidecar) == b"new"
    assert not (folder / "layers.json").exists()


def test_the_digest_follows_every_part_of_the_key() -> None:
    others = [
        key(library="tensorrt-rtx"), key(version="10.4.0"), key(compute_capability="8.6"), key(gpu="Xavier"),
        key(platform="linux-x86_64"), key(graph_sha256="cd" * 32), key(flags=BuildFlags(tf32=True)),
    ]  # fmt: skip
    assert len({KEY.digest, *(other.digest for other in others)}) == 1 + len(others)
    assert key().digest == KEY.digest


def test_one_changed_byte_of_the_engine_is_noticed(cache: EngineCache) -> None:
    cache.store(record(), b"engine")
    folder, sidecar = cache.find(KEY) or pytest.fail("not found")
    (folder / "engine.bin").write_bytes(b"Engine")
    with pytest.raises(InputError, match=r"engine\.bin: has SHA-256 .*its sidecar says"):
        cache.load(folder, sidecar)


def test_a_sidecar_that_was_changed_to_fit_another_engine(cache: EngineCache) -> None:
    """Whoever exchanges the engine can write its hash too, but not the cache's signature."""
    import hashlib

    cache.store(record(), b"engine")
    folder, sidecar = cache.find(KEY) or pytest.fail("not found")
    (folder / "engine.bin").write_bytes(b"evil")
    content = json.loads((folder / "engine.json").read_text())
    content |= {"engine_sha256": hashlib.sha256(b"evil").hexdigest(), "engine_bytes": 4}
    (folder / "engine.json").write_text(json.dumps(content))
    folder, sidecar = cache.find(KEY) or pytest.fail("not found")
    with pytest.raises(InputError, match="was not built by this cache"):
        cache.load(folder, sidecar)


def test_an_engine_of_another_machine_is_not_loaded(cache: EngineCache, tmp_path: Path) -> None:
    """Even one for the same GPU and version: copying engine and sidecar is not building."""
    foreign = EngineCache(tmp_path / "foreign")
    foreign.store(record(), b"engine")
    cache.store(record(key(graph_sha256="cd" * 32)), b"own")
    shutil.copytree(foreign.place(KEY), cache.place(KEY))
    folder, sidecar = cache.find(KEY) or pytest.fail("not found")
    with pytest.raises(InputError, match="was not built by this cache"):
        cache.load(folder, sidecar)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_a_cache_that_others_can_write_to_is_not_used(cache: EngineCache) -> None:
    cache.store(record(), b"engine")
    folder, sidecar = cache.find(KEY) or pytest.fail("not found")
    (cache.folder / "engines").chmod(0o777)
    with pytest.raises(InputError, match="others can write to the engine cache"):
        cache.load(folder, sidecar)
    with pytest.raises(InputError, match="others can write"):
        cache.store(record(), b"engine")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_only_the_owner_can_read_the_key(cache: EngineCache) -> None:
    cache.store(record(), b"engine")
    assert stat.S_IMODE((cache.folder / "signing.key").stat().st_mode) & 0o077 == 0
    assert stat.S_IMODE((cache.folder / "engines").stat().st_mode) == 0o700


def test_a_cache_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(InputError, match=r"cannot be written.*PERSON_SEARCH_CACHE"):
        EngineCache(tmp_path / "cache").store(record(), b"engine")


@pytest.mark.parametrize(
    ("built", "reason"),
    [
        ({}, ""),
        ({"graph_sha256": "cd" * 32}, "built from another graph (cdcdcdcdcdcd...)"),
        ({"library": "tensorrt-rtx"}, "built by tensorrt-rtx"),
        ({"version": "10.16.1"}, "built by tensorrt 10.16.1, here is 10.3.0"),
        ({"compute_capability": "7.2"}, "built for compute capability 7.2, this GPU has 8.7"),
        ({"gpu": "Orin Nano"}, "built on Orin Nano, this GPU is Orin"),
        ({"gpu": ""}, ""),
        ({"platform": "linux-x86_64"}, "built on linux-x86_64, this is linux-aarch64"),
        ({"flags": BuildFlags(tf32=True)}, ""),
    ],
)
def test_why_an_engine_cannot_run(built: dict[str, object], reason: str) -> None:
    assert "; ".join(mismatches(key(**built), KEY)) == reason


def test_all_reasons_are_given(cache: EngineCache) -> None:
    cache.store(record(key(version="8.6.2", compute_capability="7.2")), b"engine")
    near, reason = cache.nearest(KEY)
    assert near is not None
    assert reason == "built by tensorrt 8.6.2, here is 10.3.0; built for compute capability 7.2, this GPU has 8.7"
    assert cache.find(KEY) is None


@pytest.mark.parametrize(
    ("built", "here", "runs"),
    [
        ("10.3.0", "10.16.1", True), ("10.16.1", "11.4.0", True), ("10.3.0", "10.3.2", True),
        ("10.16.1", "10.3.0", False), ("8.6.2", "10.3.0", False), ("9.1.0", "11.4.0", False),
        ("11.4.0", "10.16.1", False),
    ],
)  # fmt: skip
def test_version_compatible_engines_go_forward_only(built: str, here: str, runs: bool) -> None:
    flags = BuildFlags(version_compatible=True)
    assert bool(mismatches(key(version=built, flags=flags), key(version=here))) != runs
    assert mismatches(key(version=built), key(version=here)) or built == here


@pytest.mark.parametrize(
    ("built", "here", "runs"), [("8.6", "8.9", True), ("8.0", "12.0", True), ("8.6", "7.5", False)]
)
def test_engines_for_ampere_and_later(built: str, here: str, runs: bool) -> None:
    flags = BuildFlags(hardware_compatible="ampere-plus")
    assert bool(mismatches(key(compute_capability=built, gpu="", flags=flags), key(compute_capability=here))) != runs


def test_of_several_that_fit_the_last_built_runs(cache: EngineCache) -> None:
    cache.store(record(key(flags=BuildFlags(tf32=True)), built="2026-02-01T00:00:00"), b"second")
    cache.store(record(built="2026-01-01T00:00:00"), b"first")
    folder, sidecar = cache.find(KEY) or pytest.fail("not found")
    assert cache.load(folder, sidecar) == b"second"


def test_an_unreadable_sidecar_hides_no_other(cache: EngineCache) -> None:
    cache.store(record(), b"engine")
    broken = cache.folder / "engines" / "00broken"
    broken.mkdir()
    (broken / "engine.json").write_text("{")
    assert cache.find(KEY) is not None


def test_timings_are_kept_for_a_version_and_a_gpu(cache: EngineCache) -> None:
    cache.keep_timings(KEY, b"times")
    assert cache.timing_file(key(graph_sha256="cd" * 32)).read_bytes() == b"times"
    assert not cache.timing_file(key(version="10.4.0")).exists()


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PERSON_SEARCH_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("PERSON_SEARCH_CACHE")
    if sys.platform.startswith("linux"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache_folder() == tmp_path / "edge-person-search"
        monkeypatch.delenv("XDG_CACHE_HOME")
        assert cache_folder() == Path(os.path.expanduser("~/.cache/edge-person-search"))
