"""Ratios that were aimed at, each computed from one run, with what it comes to."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from personsearch.benchmarks.peers import Peer, PeersReport
from personsearch.core.recipe import StrictModel

OWN_EAGER, FASTER_ENGINE, TEACHER, HOST_SHARE = 5.0, 1.5, 25.0, 0.10
PAIR_AT = {5: 1.5, 15: 3.0}
LOST_POINTS = 0.01


class Target(StrictModel):
    """One aim; ``met`` is none where the run has not what it is about."""

    aim: str
    limit: float
    value: float | None = Field(description="a ratio of medians, or a share")
    met: bool | None
    measured: str


def targets_of(report: PeersReport) -> list[Target]:
    """Every aim at five people a frame, the pair at fifteen too, where those were timed."""
    people = 5 if 5 in report.plan.people else report.plan.people[-1]
    students = [peer for peer in report.peers if peer.role == "student"]
    if not students:
        return []
    best = min(students, key=lambda peer: peer.frame_ms(people))
    found = [
        _faster(f"the student's own torch eager, {people} people", best, _first(report, "own checkpoint"), people,
                OWN_EAGER),
        _engine(students, people),
    ]  # fmt: skip
    for count, limit in PAIR_AT.items():
        for pair in (peer for peer in report.peers if peer.role == "pair" and count in peer.times):
            same = [peer for peer in students if peer.precision == pair.precision]
            fastest = min(same, key=lambda peer: peer.frame_ms(count), default=None)
            found.append(_faster(f"{pair.name} in {pair.precision}, {count} people", fastest, pair, count, limit))
    teacher = next((peer for peer in report.peers if peer.role == "teacher" and "compiled" not in peer.name), None)
    found.append(_faster(f"the teacher in torch eager, {people} people", best, teacher, people, TEACHER))
    share = best.times[people].host_share
    found.append(
        Target(
            aim="pre-, post-processing and matching in a frame's time",
            limit=HOST_SHARE,
            value=share,
            met=None if share is None else share < HOST_SHARE,
            measured="not measured" if share is None else f"{share:.1%} of {best.name}, {people} people",
        )
    )
    return found


def targets_text(targets: Sequence[Target]) -> str:
    """A line each: met, not met or not measured."""
    words = {True: "met    ", False: "NOT met", None: "no data"}
    return "\n".join(f"  {words[one.met]}  {one.aim}: {one.measured}" for one in targets)


def _first(report: PeersReport, role: str) -> Peer | None:
    return next((peer for peer in report.peers if peer.role == role and "compiled" not in peer.name), None)


def _faster(than: str, student: Peer | None, other: Peer | None, people: int, limit: float) -> Target:
    aim = f"at least {limit:g} times as fast as {than}"
    if student is None or other is None:
        return Target(aim=aim, limit=limit, value=None, met=None, measured="not in this run")
    mine, theirs = student.frame_ms(people), other.frame_ms(people)
    return Target(
        aim=aim,
        limit=limit,
        value=theirs / mine,
        met=theirs / mine >= limit,
        measured=f"{theirs / mine:.2f} times ({student.name} {mine:.2f} ms, {other.name} {theirs:.2f} ms)",
    )


def _engine(students: Sequence[Peer], people: int) -> Target:
    aim = (
        f"int8 or another engine at least {FASTER_ENGINE:g} times as fast as ONNX Runtime in fp32, 1 point of mAP lost"
    )
    base = next(
        (peer for peer in students if peer.precision == "fp32" and "onnx" in peer.runner.lower().replace(" ", "")), None
    )
    if base is None:
        return Target(aim=aim, limit=FASTER_ENGINE, value=None, met=None, measured="no ONNX Runtime fp32 in this run")
    others = [peer for peer in students if peer is not base]
    allowed = [peer for peer in others if (lost := _lost(base, peer)) is None or lost <= LOST_POINTS]
    best = min(allowed, key=lambda peer: peer.frame_ms(people), default=None)
    if best is None:
        return Target(aim=aim, limit=FASTER_ENGINE, value=None, met=None, measured="no other engine in this run")
    lost = _lost(base, best)
    ratio = base.frame_ms(people) / best.frame_ms(people)
    points = "mAP not measured" if lost is None else f"{100 * lost:.2f} points of mAP lost"
    return Target(
        aim=aim,
        limit=FASTER_ENGINE,
        value=ratio,
        # A speed-up whose price is not known is no result.
        met=None if lost is None else ratio >= FASTER_ENGINE,
        measured=f"{ratio:.2f} times ({best.name} over {base.name}), {points}",
    )


def _lost(base: Peer, other: Peer) -> float | None:
    return None if base.mean_ap is None or other.mean_ap is None else base.mean_ap - other.mean_ap
