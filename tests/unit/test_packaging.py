"""The layout's guards: what is on disk is what is packaged, and the links serve the static tools only."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAGES = ("train", "distill", "export", "runtime", "benchmarks")


def packaged() -> set[str]:
    # tomllib is missing from Python 3.10, and this list is flat.
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^packages = \[(.*?)\]", text, flags=re.MULTILINE | re.DOTALL)
    assert block is not None
    return set(re.findall(r'"([\w.]+)"', block.group(1)))


def on_disk() -> set[str]:
    found = set()
    roots = {"personsearch": ROOT / "src/personsearch"}
    roots |= {f"personsearch.{name}": ROOT / name for name in (*STAGES, "artifacts", "recipes")}
    for name, folder in roots.items():
        for file in folder.rglob("__init__.py"):
            inside = file.parent.relative_to(folder).parts
            if not (name == "personsearch" and inside and inside[0] in STAGES):
                found.add(".".join((name, *inside)))
    return found


def test_every_package_on_disk_is_packaged() -> None:
    assert packaged() == on_disk()


@pytest.mark.parametrize("stage", STAGES)
def test_the_static_tools_link_leads_to_the_stage(stage: str) -> None:
    link = ROOT / "src/personsearch" / stage
    if not link.is_symlink():
        pytest.skip("a checkout without symbolic links (a zip): only the static tools need them")
    assert link.resolve() == ROOT / stage
