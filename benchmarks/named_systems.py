"""Models as a command names them, with what runs them: ``artifacts/street@openvino``, ``runs/teacher@compiled``."""

from __future__ import annotations

from pathlib import Path

from personsearch.benchmarks.systems import EngineSystem, SearchSystem, TorchSystem, checkpoint_file, open_system
from personsearch.benchmarks.systems import system_name as name_of
from personsearch.core.engine_names import ENGINES
from personsearch.core.errors import InputError
from personsearch.core.files import sha256_file
from personsearch.core.recipe import StrictModel

TORCH = ("eager", "compiled")


class SystemSpec(StrictModel):
    """A model and what runs it; ``runner`` is an engine, ``eager`` or ``compiled``, or none for the model's own."""

    path: Path
    runner: str | None = None

    @property
    def name(self) -> str:
        """What results call it."""
        return name_of(self.path) + (f"@{self.runner}" if self.runner else "")

    @property
    def is_artifact(self) -> bool:
        """Whether it is a folder of graphs and no checkpoint."""
        return checkpoint_file(self.path) is None


def parse_system(text: str) -> SystemSpec:
    """``PATH`` or ``PATH@RUNNER``; a path that exists is taken as it stands.

    Raises:
        InputError: nothing is there, or the runner does not run it.
    """
    head, at, runner = text.rpartition("@")
    spec = SystemSpec(path=Path(text)) if not at or Path(text).exists() else SystemSpec(path=Path(head), runner=runner)
    if spec.runner is not None and spec.runner not in (*ENGINES, *TORCH):
        raise InputError(
            f"`{spec.runner}` runs nothing",
            where=text,
            expected=f"one of {', '.join(ENGINES)} for an artifact, {' or '.join(TORCH)} for a checkpoint",
        )
    artifact = spec.is_artifact  # refuses a path where nothing is, runner or not
    if spec.runner is not None and artifact == (spec.runner in TORCH):
        kind, right = ("an artifact", ENGINES) if artifact else ("a checkpoint", TORCH)
        raise InputError(f"`{spec.runner}` does not run {kind}", where=text, expected=f"one of {', '.join(right)}")
    return spec


def parse_systems(texts: list[str]) -> dict[str, SystemSpec]:
    """`parse_system` of each, by name; `InputError` where two have one name."""
    specs: dict[str, SystemSpec] = {}
    for text in texts:
        spec = parse_system(text)
        if spec.name in specs:
            raise InputError(f"two models are called `{spec.name}`", expected="different names", remedy="rename one")
        specs[spec.name] = spec
    return specs


def open_spec(spec: SystemSpec, threads: int | None = None) -> SearchSystem:
    """Opens a model with its runner; compiled are the trunks, whose shapes stay, with their first frame.

    Raises:
        InputError: see `personsearch.benchmarks.systems.open_system`; or no compiler, or nothing to compile.
    """
    if spec.runner != "compiled":
        return open_system(spec.path, threads, engine=None if spec.runner == "eager" else spec.runner)
    import torch

    from personsearch.models.checkpoint import load_model
    from personsearch.train.acceleration import accelerate

    checkpoint = checkpoint_file(spec.path)
    if checkpoint is None:
        raise InputError("is no checkpoint", where=str(spec.path), expected="one, as it is compiled by torch")
    if threads is not None:
        torch.set_num_threads(threads)
    model, _ = load_model(checkpoint)
    accelerate(model, channels_last=False, compiled=True, device=torch.device("cpu"))
    return TorchSystem(model, sha256_file(checkpoint))


def describe_runner(system: SearchSystem) -> str:
    """Library, version and device that run a system, its library's name first."""
    if isinstance(system, EngineSystem):
        return system.engine.label
    if isinstance(system, TorchSystem):
        import torch

        return f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    return type(system).__name__


def on_device(runner: str) -> bool:
    """Whether frames are copied to a device, from what `describe_runner` says."""
    return runner.startswith("tensorrt") or ", cuda" in runner
