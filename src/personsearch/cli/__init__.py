"""The one command. Each sub-command lives in a file of its own and imports its stage only when called."""

from __future__ import annotations

import os
import sys
import warnings

from personsearch.core.errors import InputError


def main() -> None:
    """Entry point of ``personsearch``: bad input becomes one line and exit code 2, never a traceback."""
    from personsearch.cli.app import app
    from personsearch.core.parity_notice import plain_parity_warning

    warnings.formatwarning = plain_parity_warning
    try:
        app()
    except InputError as error:
        print(f"personsearch: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader (head, a closed pager) has gone; leave quietly and keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def require(module: str, extra: str, purpose: str) -> None:
    """Raises an `InputError` that names the extra to install when ``module`` cannot be found."""
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise InputError(
            f"{purpose} needs `{module}`, which is not installed", remedy=f"pip install 'edge-person-search[{extra}]'"
        )
