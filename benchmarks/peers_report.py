"""A run of `peers` as a table for people, as JSON and as one record."""

from __future__ import annotations

from typing import Any

from personsearch.benchmarks.latency_report import METHOD
from personsearch.benchmarks.peers import Peer, PeersReport
from personsearch.benchmarks.peers_targets import targets_of, targets_text

Figures = dict[str, tuple[float, str]]
MISSING = "–"


def peers_text(report: PeersReport) -> str:
    """The table, then the targets."""
    plan = report.plan
    lines = [
        f"frames of {plan.frame_wh[0]}x{plan.frame_wh[1]}, {plan.threads or 'the choice of'} threads; {plan.restarts} "
        f"processes of each system, {plan.rounds} frames each, in turns; {METHOD}",
        "ms a frame (pre- and post-processing in, decoding out), median by people in view; pairs embed exactly so many",
        "",
        f"{'':<34} {'precision':<10}"
        + "".join(f"{f'{count} people':>12}" for count in plan.people)
        + f"{'found':>8}{'mAP %':>8}{'AP %':>8}",
    ]
    for peer in report.peers:
        times = "".join(f"{peer.frame_ms(count):>12.2f}" for count in plan.people)
        found = peer.times[plan.people[-1]].people_per_frame
        lines.append(
            f"{peer.name:<34} {peer.precision:<10}{times}{found:>8.1f}{_percent(peer.mean_ap):>8}"
            f"{_percent(detection_ap(peer)):>8}"
        )
    targets = targets_of(report)
    return "\n".join([*lines, "", "targets", targets_text(targets)]) if targets else "\n".join(lines)


def peers_content(report: PeersReport) -> dict[str, Any]:
    """Everything, for ``--json``."""
    return {
        **report.model_dump(mode="json"),
        "targets": [target.model_dump(mode="json") for target in targets_of(report)],
    }


def detection_ap(peer: Peer) -> float | None:
    """Detection AP at IoU 0.5, share."""
    accuracy = peer.accuracy
    return None if accuracy is None or accuracy.detection is None else accuracy.detection.average_precision


def peers_record(report: PeersReport) -> tuple[Figures, dict[str, str]]:
    """One record of the whole run: figures as ``SYSTEM | PEOPLE | WHAT``, facts of each system as settings."""
    plan = report.plan
    figures: Figures = {}
    settings = {
        "people": ", ".join(map(str, plan.people)),
        "size": f"{plan.frame_wh[0]}x{plan.frame_wh[1]}",
        "frames": f"{plan.frames} distinct generated frames with exactly so many people in view",
        "boxes": "a pair embeds as many crops as people are in view, found or not",
        "queries": f"{plan.rounds} in {plan.restarts} processes, {plan.turn} a turn",
        "method": METHOD,
        "threads": str(plan.threads or "engine's choice"),
        "systems": "; ".join(peer.name for peer in report.peers),
        **report.state,
    }
    for peer in report.peers:
        settings[f"{peer.name} | about"] = f"{peer.role}; {peer.precision}; {peer.runner}"
        if peer.sha256:
            settings[f"{peer.name} | sha256"] = peer.sha256
        for count, latency in peer.times.items():
            figures |= _times(f"{peer.name} | {count}", peer, count)
            if latency.host_share is not None and peer.role == "student":
                figures[f"{peer.name} | {count} | host_share"] = (latency.host_share, "share")
        if peer.accuracy is not None:
            settings["data"] = f"{peer.accuracy.dataset}, split {peer.accuracy.split}, {peer.accuracy.images} images"
        for what, value in (("map", peer.mean_ap), ("detection_ap", detection_ap(peer))):
            if value is not None:
                figures[f"{peer.name} | {what}"] = (value, "share")
    for number, target in enumerate(targets_of(report), start=1):
        word = "no data" if target.met is None else "met" if target.met else "NOT met"
        settings[f"target {number}"] = f"{word}: {target.aim}: {target.measured}"
        if target.value is not None:
            figures[f"target {number}"] = (target.value, "share" if target.limit < 1 else "times")
    return figures, settings


def _times(start: str, peer: Peer, count: int) -> Figures:
    scope = peer.times[count].scopes["frame"]
    found = {f"{start} | frame_{share}_ms": (getattr(scope, share).value, "ms") for share in ("p50", "p90", "p99")}
    for side in ("low", "high"):
        bound = getattr(scope.p50, side)
        if bound is not None:
            found[f"{start} | frame_p50_ms_{side}"] = (bound, "ms")
    found[f"{start} | found"] = (peer.times[count].people_per_frame, "people")
    return found


def _percent(share: float | None) -> str:
    return MISSING if share is None else f"{100 * share:.1f}"
