"""How much memory a device still has."""

from __future__ import annotations

from pathlib import Path

import torch

# Limit, use and statistics of a container's memory, in version 2 of Linux's control groups and in version 1.
_GROUPS = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)


def free_memory(device: torch.device) -> int | None:
    """Bytes that can be had on ``device`` without swapping; none where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return free_ram() if device.type == "cpu" else None


def free_ram(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What Linux says is available, or what a container's limit leaves of it; none on other systems.

    Args:
        proc: where the kernel shows processes.
        groups: where it shows control groups.
    """
    info = proc / "meminfo"
    if not info.is_file():
        return None
    available = _rows(info, ":").get("MemAvailable")
    if available is None:
        return None
    free = available * 1024
    for names in _GROUPS:
        limit, used, statistics = (groups / name for name in names)
        if limit.is_file() and used.is_file() and (text := limit.read_text().strip()).isdecimal():
            cache = _rows(statistics, " ").get("inactive_file", 0) if statistics.is_file() else 0
            free = min(free, max(0, int(text) - int(used.read_text()) + cache))
    return free


def _rows(path: Path, separator: str) -> dict[str, int]:
    """The first number of every ``name<separator>number`` line."""
    rows = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, _, rest = line.partition(separator)
        first = rest.split()
        if first and first[0].isdecimal():
            rows[name] = int(first[0])
    return rows
