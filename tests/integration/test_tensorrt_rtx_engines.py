"""Tiny graphs of every precision through NVIDIA's real parser and builder into the cache; no GPU is needed."""

from __future__ import annotations

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import runtime_stub as stub
from tiny_graphs import convolutions
from typer.testing import CliRunner

from personsearch.benchmarks.build_record import build_table
from personsearch.benchmarks.results import read_results
from personsearch.cli.engine import app
from personsearch.core.cuda_driver import CudaDriver, probe_cuda
from personsearch.core.engine_builder import build_engine
from personsearch.core.engine_builds import engine_key
from personsearch.core.engine_cache import BuildFlags, EngineCache
from personsearch.core.engine_tensorrt import TensorRt, load_tensorrt
from personsearch.core.errors import InputError
from personsearch.export.engine_build import build_engines
from personsearch.runtime import open_engine

pytestmark = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None, reason="TensorRT for RTX is not installed: pip install 'edge-person-search[rtx]'"
)
NO_GPU = CudaDriver(problem="none")
without_gpu = pytest.mark.skipif(not probe_cuda().problem, reason="this machine has a GPU")


@pytest.fixture(scope="module")
def api() -> TensorRt:
    return load_tensorrt("tensorrt-rtx")


@pytest.mark.parametrize("capability", ["8.6", "8.9"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_each_precision_becomes_an_engine_with_its_sidecar(
    precision: str, capability: str, api: TensorRt, tmp_path: Path
) -> None:
    content = convolutions(precision)
    sha256 = hashlib.sha256(content).hexdigest()
    key = engine_key(api, capability, NO_GPU, sha256)
    cache = EngineCache(tmp_path)
    record = build_engine(api, content, key, cache, graph=f"{precision}.onnx")
    found = cache.find(key)
    assert found is not None
    assert len(cache.load(*found)) == record.engine_bytes > 1000
    sidecar = json.loads((found[0] / "engine.json").read_text())
    assert sidecar["key"]["compute_capability"] == capability
    assert sidecar["key"]["graph_sha256"] == sha256
    assert sidecar["key"]["version"] == api.version
    assert sidecar["inputs"] == [{"name": "frames", "dtype": "uint8", "shape": [1, 16, 16, 3]}]
    assert sidecar["outputs"] == [{"name": "embeddings", "dtype": "float32", "shape": [1, 8]}]


def test_a_free_batch_becomes_one_engine_for_a_range_of_them(api: TensorRt, tmp_path: Path) -> None:
    content = stub.search_graph("batch").SerializeToString()
    key = engine_key(api, "8.6", NO_GPU, hashlib.sha256(content).hexdigest(), BuildFlags(batch=(1, 2, 4)))
    record = build_engine(api, content, key, EngineCache(tmp_path), graph="search.onnx")
    assert record.inputs[0].shape == (-1, 48, 64, 3)
    bare = engine_key(api, "8.6", NO_GPU, key.graph_sha256)
    with pytest.raises(InputError, match="takes any batch"):
        build_engine(api, content, bare, EngineCache(tmp_path), graph="search.onnx")


def test_which_gpus_it_builds_for(api: TensorRt, tmp_path: Path) -> None:
    """Compute capability 9.0 (H100, H200) is none of them in 1.7; one that runs there has to be built there."""
    assert {"8.6", "8.9", "12.0"} <= set(api.compute_capabilities())
    if api.version.startswith("1.7."):
        assert api.compute_capabilities() == ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
    if "9.0" not in api.compute_capabilities() and "9.0" not in probe_cuda().compute_capabilities:
        content = convolutions("fp32")
        key = engine_key(api, "9.0", NO_GPU, hashlib.sha256(content).hexdigest())
        with pytest.raises(InputError, match=r"does not build for compute capability 9\.0"):
            build_engine(api, content, key, EngineCache(tmp_path), graph="search.onnx")


@without_gpu
def test_running_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="TensorRT for RTX needs a GPU to run") as caught:
        open_engine(stub.write_artifact(tmp_path), engine="tensorrt-rtx", rebuild=True)
    assert "\n" not in str(caught.value)


@without_gpu
def test_building_needs_a_gpu_or_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PERSON_SEARCH_CACHE", str(tmp_path / "cache"))
    artifact = stub.write_artifact(tmp_path / "artifact")
    result = CliRunner().invoke(app, ["build", str(artifact), "--engine", "tensorrt-rtx"])
    assert isinstance(result.exception, InputError)
    assert "for which GPU is not said" in str(result.exception)
    assert not (tmp_path / "cache").exists()


def search_only(folder: Path) -> Path:
    """The stub's query graph pools by RoiAlign, a plugin that cannot be built without a driver: left out."""
    stub.write_artifact(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["graphs"]["query"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_the_command_builds_and_lists(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PERSON_SEARCH_CACHE", str(tmp_path / "cache"))
    artifact = search_only(tmp_path / "artifact")
    arguments = ["build", str(artifact), "--engine", "tensorrt-rtx", "--compute-capability", "8.9", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)[0]["key"]["compute_capability"] == "8.9"
    listed = CliRunner().invoke(app, ["list"]).stdout
    assert "search.onnx  tensorrt-rtx" in listed
    assert "any GPU of it" in listed
    if probe_cuda().problem:
        assert "does not run here: no CUDA driver" in listed
    rows = json.loads(CliRunner().invoke(app, ["list", "--json"]).stdout)
    assert [row["runs"] for row in rows] == [not row["problem"] for row in rows]


def test_what_was_built_is_recorded_and_tabled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PERSON_SEARCH_CACHE", str(tmp_path / "cache"))
    artifact = search_only(tmp_path / "artifact")
    capabilities = ["--compute-capability", "8.6", "--compute-capability", "8.9"]
    save = ["--save", str(tmp_path / "records")]
    result = CliRunner().invoke(app, ["build", str(artifact), "--engine", "tensorrt-rtx", *capabilities, *save])
    assert result.exit_code == 0, result.output
    (record,) = read_results(tmp_path / "records")
    assert (record.kind, record.subject) == ("build", "artifact@tensorrt-rtx")
    assert record.settings["gpu"] == (probe_cuda().devices[0] if not probe_cuda().problem else "none")
    table = build_table([record])
    assert table is not None
    assert [list(row[3:6]) for row in table.rows] == [
        ["search.onnx", record.settings["library"], capability] for capability in ("8.6", "8.9")
    ]
    assert all(int(row[6]) > 3 and float(row[7]) > 0 for row in table.rows)
    assert build_table([]) is None


def test_int8_for_cpus_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PERSON_SEARCH_CACHE", str(tmp_path / "cache"))
    artifact = stub.write_artifact(tmp_path / "artifact", precision="int8", int8_flavour="u8s8")
    arguments = ["build", str(artifact), "--engine", "tensorrt-rtx", "--compute-capability", "8.9"]
    with pytest.raises(InputError) as caught:
        open_engine(artifact, engine="tensorrt-rtx")
    for refusal in (CliRunner().invoke(app, arguments).exception, caught.value):
        assert "flavour u8s8, which is for CPUs; expected s8s8 for TensorRT; export with `--to tensorrt" in str(refusal)
    assert not (tmp_path / "cache").exists()


def test_an_export_builds_what_it_can_and_says_what_it_cannot(tmp_path: Path) -> None:
    artifact = search_only(tmp_path / "artifact")
    built = build_engines(
        artifact, "tensorrt-rtx", compute_capabilities=("8.6",), cache=EngineCache(tmp_path / "cache")
    )
    assert [record.graph for record in built.records] == ["search.onnx"]
    assert built.not_built == ""
    if find_spec("tensorrt") is None:
        left = build_engines(artifact, "tensorrt", cache=EngineCache(tmp_path / "cache"))
        assert left.records == ()
        assert "not installed here (pip install" in left.not_built


@pytest.mark.parametrize(
    ("batch", "message"), [("1,4", "fewest,usual,most"), ("4,2,8", "do not fall"), ("a,b,c", "such as 1,4,8")]
)
def test_batches_that_are_none(batch: str, message: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["build", str(tmp_path), "--engine", "tensorrt-rtx", "--batch", batch])
    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)
