"""Files and paths. Write beside, then rename: a reader sees the old content or the new, never half of it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from personsearch.core.errors import InputError


def _beside(path: Path) -> Path:
    # A hidden name that keeps the suffix: encoders choose the format by it.
    return path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.part{path.suffix}")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yields a path beside ``path`` to write to; renames it on success, removes it on any exception."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _beside(path)
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """Yields a new folder beside ``path``; on success it takes ``path``'s place, whole, else it is removed.

    What stood at ``path`` before is kept until the new folder is complete.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _beside(path)
    part.mkdir()
    try:
        yield part
        if path.exists():
            old = _beside(path)
            os.replace(path, old)
            os.replace(part, path)
            shutil.rmtree(old)
        else:
            os.replace(part, path)
    finally:
        if part.exists():
            shutil.rmtree(part)


def write_json(path: Path, value: Any) -> None:
    """Writes ``value`` as indented JSON, atomically; refuses NaN and infinities with ``ValueError``."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8")


def sha256_file(path: Path) -> str:
    """Lower-case hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def expand_path(value: str, *, where: str) -> Path:
    """A path of a recipe or a specification, its environment variables (``${NAME}``) filled in.

    Args:
        value: as it was written.
        where: the file and field, for the message.

    Raises:
        InputError: a variable is not set.
    """

    def variable(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if not os.environ.get(name):
            raise InputError(
                f"environment variable `{name}` is not set",
                where=where,
                expected=f"a folder, for `{value}`",
                remedy=f"export {name}=/folder/with/the/data",
            )
        return os.environ[name]

    return Path(re.sub(r"\$\{(\w+)\}|\$(\w+)", variable, value)).expanduser()
