"""Our engines, our teacher and what a user would take today, side by side in one run on the same frames.

Timing is `latency_run`'s: every system in a process of its own, turn by turn, so that ratios hold on a noisy machine.
A frame shows a known number of people; a two-step pair embeds exactly so many crops, found or not, as its time depends
on them (ours are graphs of fixed shape). Accuracy is `measure_accuracy`'s on labelled data, of the very files that are
timed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from personsearch.benchmarks.accuracy import AccuracyResult, measure_accuracy
from personsearch.benchmarks.frame_feed import made_frames
from personsearch.benchmarks.latency_records import LatencyPlan, SystemLatency
from personsearch.benchmarks.latency_run import Maker, run_latency
from personsearch.benchmarks.machine_state import read_state, state_settings
from personsearch.benchmarks.named_systems import SystemSpec, open_spec
from personsearch.benchmarks.peers_quantise import with_batch
from personsearch.benchmarks.peers_systems import PairSpec, PlainDetector, open_pair
from personsearch.core.errors import InputError
from personsearch.core.manifest import read_manifest
from personsearch.core.recipe import StrictModel
from personsearch.data import SearchDataset

Role = Literal["student", "own checkpoint", "teacher", "pair", "detector"]
DETECTOR = "fasterrcnn-r50-fpn"


class PeersPlan(StrictModel):
    """How the systems are timed."""

    people: tuple[int, ...] = Field(default=(1, 5, 15), min_length=1, description="in view, one series each")
    frame_wh: tuple[int, int] = (768, 576)
    frames: int = Field(default=16, gt=0, description="distinct frames of a series")
    rounds: int = Field(default=100, gt=0, description="frames timed in each process")
    turn: int = Field(default=5, gt=0, description="frames of one system before it is another's turn")
    restarts: int = Field(default=3, gt=0)
    threads: int | None = None


class Peer(StrictModel):
    """One system: what it is, how long a frame takes by people in view, and how right it is."""

    name: str
    role: Role
    precision: str
    runner: str
    sha256: str
    times: dict[int, SystemLatency]
    accuracy: AccuracyResult | None

    def frame_ms(self, people: int) -> float:
        """Median of a frame, pre- and post-processing included."""
        return self.times[people].scopes["frame"].p50.value

    @property
    def mean_ap(self) -> float | None:
        """Search mAP on detections, share."""
        return None if self.accuracy is None or self.accuracy.search is None else self.accuracy.search.mean_ap


class PeersReport(StrictModel):
    """Everything of one run."""

    plan: PeersPlan
    peers: list[Peer]
    state: dict[str, str]


def measure_peers(
    ours: Mapping[Role, Sequence[SystemSpec]],
    pairs: Sequence[PairSpec],
    plan: PeersPlan,
    *,
    plain_detector: bool = True,
    dataset: SearchDataset | None = None,
    split: str = "test",
    time_only: Collection[str] = (),
) -> PeersReport:
    """Times every system at every number of people and scores those that can be.

    Args:
        ours: artifacts as ``student``, checkpoints as ``own checkpoint`` and ``teacher``.
        pairs: two-step systems, in fp32 and, where they were quantised, int8.
        plan: counts and sizes.
        plain_detector: time torchvision's Faster R-CNN too.
        dataset: labelled frames; none for times alone.
        split: what the records call them.
        time_only: names of systems that are timed and not scored, such as a network with untrained weights.

    Raises:
        InputError: a system cannot be opened, two have one name, none has that of ``time_only``, or the frames hold too
            few people.
    """
    roles: dict[str, Role] = {}
    named = [(spec.name, role) for role, specs in ours.items() for spec in specs]
    others: list[tuple[str, Role]] = [(pair.name, "pair") for pair in pairs]
    for name, role in [*named, *others, *([(DETECTOR, "detector")] if plain_detector else [])]:
        if name in roles:
            raise InputError(f"two systems are called `{name}`", expected="different names", remedy="rename one")
        roles[name] = role  # type: ignore[assignment]  # both lists hold roles
    for name in time_only:
        if name not in roles:
            raise InputError(f"no system is called `{name}`", expected=f"one of {', '.join(roles)}")
    specs = {spec.name: spec for group in ours.values() for spec in group}
    before = read_state()
    times: dict[int, dict[str, SystemLatency]] = {}
    for people in plan.people:
        times[people] = _timed(specs, pairs, plan, people, plain_detector=plain_detector)
    peers = [
        Peer(
            name=name,
            role=role,
            precision=_precision(specs.get(name), pairs, name),
            runner=_runner(times[plan.people[0]][name], pairs) + (", timed alone" if name in time_only else ""),
            sha256=times[plan.people[0]][name].sha256,
            times={people: found[name] for people, found in times.items()},
            accuracy=None,
        )
        for name, role in roles.items()
    ]
    if dataset is not None:
        peers = [
            peer if peer.name in time_only else _scored(peer, specs, pairs, plan.threads, dataset, split)
            for peer in peers
        ]
    return PeersReport(plan=plan, peers=peers, state=state_settings(before, read_state()))


def _timed(
    specs: Mapping[str, SystemSpec], pairs: Sequence[PairSpec], plan: PeersPlan, people: int, *, plain_detector: bool
) -> dict[str, SystemLatency]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "frames").mkdir()
        supply = made_frames(folder / "frames", plan.frames, plan.frame_wh, people)
        makers: dict[str, Maker] = {name: (open_spec, (spec, plan.threads)) for name, spec in specs.items()}
        for pair in pairs:
            makers[pair.name] = (open_pair, (with_batch(pair, people, folder), plan.threads, people))
        if plain_detector:
            makers[DETECTOR] = (PlainDetector, (plan.threads,))
        latency = LatencyPlan(
            source=supply.source,
            rounds=plan.rounds,
            turn=min(plan.turn, plan.rounds),
            restarts=plan.restarts,
            threads=plan.threads,
        )
        return {result.system: result for result in run_latency(makers, latency)}


def _scored(
    peer: Peer,
    specs: Mapping[str, SystemSpec],
    pairs: Sequence[PairSpec],
    threads: int | None,
    dataset: SearchDataset,
    split: str,
) -> Peer:
    if peer.role == "detector":  # random weights
        return peer
    if peer.role == "pair":
        system = open_pair(next(pair for pair in pairs if pair.name == peer.name), threads)
        result = measure_accuracy(system, dataset, name=peer.name, split=split, true_boxes=False)
    else:
        result = measure_accuracy(
            open_spec(specs[peer.name], threads), dataset, name=peer.name, split=split, true_boxes=False
        )
    return peer.model_copy(update={"accuracy": result})


def _precision(spec: SystemSpec | None, pairs: Sequence[PairSpec], name: str) -> str:
    if spec is not None and spec.is_artifact:
        return str(read_manifest(spec.path).precision)
    return next((pair.precision for pair in pairs if pair.name == name), "fp32")


def _runner(latency: SystemLatency, pairs: Sequence[PairSpec]) -> str:
    pair = next((one for one in pairs if one.name == latency.system), None)
    if pair is not None:
        kinds = {"ONNX Runtime" if one.suffix == ".onnx" else "OpenVINO" for one in (pair.detector, pair.reid)}
        return " and ".join(sorted(kinds))
    return "torch, random weights" if latency.system == DETECTOR else latency.runner
