"""Addresses of cameras, and how to speak of them without giving away how to get in."""

from __future__ import annotations

import os
import re

from personsearch.core.errors import InputError

_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
_HIDDEN = "***"


def is_url(text: str) -> bool:
    """Whether ``text`` starts with a scheme, as ``rtsp://`` or ``https://``."""
    return _URL.match(text) is not None


def redact(address: str) -> str:
    """An address as it may be shown, logged or stored: no user, password, query value or fragment.

    Hides too much rather than too little: everything up to the last ``@`` goes, as passwords with a raw ``/``,
    ``?`` or ``@`` are common on cameras, and every value after ``?`` goes, whatever its key is called.
    """
    scheme = _URL.match(address)
    if scheme is None:
        return address
    _, at, rest = address[scheme.end() :].rpartition("@")
    body = re.split(r"[?#;]", rest, maxsplit=1)
    shown = scheme.group() + (f"{_HIDDEN}@" if at else "") + body[0]
    return shown if len(body) == 1 else f"{shown}?{_HIDDEN}"


def resolve_address(text: str) -> str:
    """``env:NAME`` becomes the value of that environment variable, anything else stays.

    An address on the command line can be read by every user of the machine; one in the environment cannot.

    Raises:
        InputError: the variable is not set or empty.
    """
    prefix, colon, name = text.partition(":")
    if prefix != "env" or not colon:
        return text
    value = os.environ.get(name, "")
    if not value:
        raise InputError(f"environment variable `{name}` is not set", where="source", expected="an address in it")
    return value
