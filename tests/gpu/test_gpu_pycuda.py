"""pycuda's buffers on the primary context, beside torch in one process."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from gpu_record import note

from personsearch.runtime import default_artifact, open_engine
from personsearch.runtime.cuda_memory import CudaGraph, open_memory
from personsearch.runtime.cuda_owner import CudaOwner


def test_pycuda_moves_and_replays() -> None:
    pytest.importorskip("pycuda", reason="pycuda is not installed: pip install 'edge-person-search[tensorrt]'")
    memory = open_memory()
    assert memory.name == "pycuda"
    source, target = memory.host((4096,), "float32"), memory.host((4096,), "float32")
    address = memory.device(source.nbytes)

    def work() -> None:
        memory.upload(address, source)
        memory.download(target, address)

    source.fill(1.5)
    work()
    memory.synchronise()
    assert set(target) == {1.5}
    graph = CudaGraph(memory.stream, work)
    source.fill(2.5)
    graph.launch()
    memory.synchronise()
    assert set(target) == {2.5}
    graph.close()
    memory.close()
    note("pycuda", "moved and replayed")


def test_torch_and_an_engine_take_turns(library: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    frame = np.random.default_rng(0).integers(0, 256, (576, 768, 3), dtype=np.uint8)
    left = torch.rand(256, 256, device="cuda")
    before = (left @ left).sum().item()
    engine = open_engine(default_artifact(), engine=library, rebuild=True, score_threshold=0.0)
    first = engine.infer([frame])[0]
    for _ in range(20):
        assert (left @ left).sum().item() == before
        again = engine.infer([frame])[0]
        np.testing.assert_allclose(again.scores, first.scores, atol=1e-5)
    note(f"{library} beside torch {torch.__version__}", engine.label)
    engine.close()
    # The context is torch's too: it must be left standing, with torch's memory in it.
    assert (left @ left).sum().item() == before
    assert torch.cuda.current_stream().query() in (True, False)


def test_torch_in_another_thread_while_an_engine_runs_and_records(library: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    stop = threading.Event()
    failures: list[BaseException] = []

    def multiply() -> None:
        try:
            while not stop.is_set():
                # Allocates and frees all the time, which a recording of the whole process would not survive.
                (torch.rand(512, 512, device="cuda") @ torch.rand(512, 512, device="cuda")).sum().item()
        except BaseException as error:
            failures.append(error)

    other = threading.Thread(target=multiply)
    other.start()
    try:
        engine = open_engine(default_artifact(), engine=library, rebuild=True)
        for seed in range(20):
            engine.infer([np.random.default_rng(seed).integers(0, 256, (576, 768, 3), dtype=np.uint8)])
        label = engine.label
        engine.close()
    finally:
        stop.set()
        other.join()
    assert failures == []
    assert "no CUDA graph" not in label


def test_two_owners_in_one_process() -> None:
    first, second = CudaOwner(), CudaOwner()
    first.close()
    address = second.call(lambda: second.memory.device(1 << 16))
    assert address
    second.close()
