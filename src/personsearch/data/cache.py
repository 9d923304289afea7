"""Where what can be made again is kept."""

from __future__ import annotations

import os
from pathlib import Path


def default_cache() -> Path:
    """The user's cache folder of this project (``XDG_CACHE_HOME`` or ``~/.cache``, then ``personsearch``)."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "personsearch"
