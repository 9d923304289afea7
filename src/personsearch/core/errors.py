"""The one exception that a user is meant to see."""

from __future__ import annotations


class InputError(Exception):
    """Bad input, told in one line: what is wrong, where, what was expected, what to do.

    The command line prints the message and exits with code 2; anything else that escapes is a bug.

    Args:
        what: what is wrong, with the offending value.
        where: the file, field or argument.
        expected: what would have been right.
        remedy: what to do about it.
    """

    def __init__(self, what: str, *, where: str = "", expected: str = "", remedy: str = "") -> None:
        self.what, self.where, self.expected, self.remedy = what, where, expected, remedy
        parts = [f"{where}: {what}" if where else what]
        if expected:
            parts.append(f"expected {expected}")
        if remedy:
            parts.append(remedy)
        super().__init__("; ".join(" ".join(part.split()) for part in parts))
