"""What an artifact that failed its parity gate says of itself, wherever it is loaded."""

from __future__ import annotations

import warnings

from personsearch.core.manifest import Manifest

_usual_format = warnings.formatwarning


class ParityWarning(UserWarning):
    """An artifact is in use that does not do what its checkpoint does."""


def parity_notice(manifest: Manifest) -> str | None:
    """One line on an artifact that failed the gate and was written by force; none for one that passed."""
    if manifest.parity.get("passed") is True:
        return None
    failures = [str(words) for words in manifest.parity.get("failures", [])]
    said = "; ".join(failures[:2]) or "nothing was measured"
    more = f" and {len(failures) - 2} more" if len(failures) > 2 else ""
    return (
        f"{manifest.name} failed its parity gate and was written by force ({said}{more}): "
        "its answers are not its checkpoint's"
    )


def plain_parity_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """For ``warnings.formatwarning``: a `ParityWarning` as one line for the user, any other as it was."""
    if issubclass(category, ParityWarning):
        return f"personsearch: warning: {message}\n"
    return _usual_format(message, category, filename, lineno, line)


def warn_of_failed_parity(manifest: Manifest) -> None:
    """A `ParityWarning` with `parity_notice`, where there is one; Python shows each once a process."""
    notice = parity_notice(manifest)
    if notice is not None:
        warnings.warn(notice, ParityWarning, stacklevel=3)
