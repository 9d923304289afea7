"""One face for ``tensorrt`` 10.3 to 11.x and ``tensorrt_rtx``: loading, logging, names and what each version lacks.

What differs between versions was read from the bindings themselves (``tests/golden/tensorrt_api``): enums are looked up
by name, since their numbers changed with 11; networks are always strongly typed, which 10.3 has to be asked for and 11
always does; and what a version has not is refused here by name, before a build of minutes.
"""

from __future__ import annotations

import importlib
import re
from functools import lru_cache
from typing import Any

from personsearch.core.cuda_driver import CudaDriver, probe_cuda
from personsearch.core.engine_cache import TensorRtName
from personsearch.core.engine_names import INSTALL, MODULES, require_library
from personsearch.core.errors import InputError

OLDEST: dict[TensorRtName, tuple[int, int]] = {"tensorrt": (10, 3), "tensorrt-rtx": (1, 7)}
NEWEST_MAJOR: dict[TensorRtName, int] = {"tensorrt": 11, "tensorrt-rtx": 1}
TITLES: dict[TensorRtName, str] = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT for RTX"}


class TensorRt:
    """An imported library and its one logger.

    Args:
        library: its name.
        module: the package, as imported.

    Raises:
        InputError: a version that the adapter was not made for.
    """

    def __init__(self, library: TensorRtName, module: Any) -> None:
        self.library, self.module = library, module
        self.version: str = module.__version__
        self.title = f"{TITLES[library]} {self.version}"
        number = re.match(r"(\d+)\.(\d+)", self.version)
        found = (int(number[1]), int(number[2])) if number else (0, 0)
        oldest = OLDEST[library]
        if found < oldest or found[0] > NEWEST_MAJOR[library]:
            raise InputError(
                f"{self.title} is not supported",
                expected=f"{oldest[0]}.{oldest[1]} to {NEWEST_MAJOR[library]}.x",
                remedy=INSTALL[library],
            )
        self.log = _logger(module)

    @property
    def is_rtx(self) -> bool:
        """Whether this is TensorRT for RTX: builds without a GPU, compiles the last part where it runs."""
        return self.library == "tensorrt-rtx"

    def has(self, *path: str) -> bool:
        """Whether the library knows a name, as ``has("BuilderFlag", "EDITABLE_TIMING_CACHE")``."""
        place = self.module
        for name in path:
            if not hasattr(place, name):
                return False
            place = getattr(place, name)
        return True

    def member(self, enum: str, name: str) -> Any:
        """A member of an enum by its name; never by number, which changed between 10 and 11.

        Raises:
            InputError: this version has none of that name.
        """
        if not self.has(enum, name):
            raise InputError(
                f"{self.title} has no {enum}.{name}", remedy="leave the option out, or use a later version"
            )
        return getattr(getattr(self.module, enum), name)

    def compute_capabilities(self) -> tuple[str, ...]:
        """Those that this library builds for without such a GPU; none for TensorRT, which builds for the GPU here."""
        if not self.has("ComputeCapability"):
            return ()
        names = (re.fullmatch(r"SM(\d+)(\d)", name) for name in self.module.ComputeCapability.__members__)
        return tuple(f"{name[1]}.{name[2]}" for name in names if name)

    def take_messages(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Errors and warnings since the last call."""
        errors, warnings = tuple(self.log.errors), tuple(self.log.warnings)
        self.log.errors.clear()
        self.log.warnings.clear()
        return errors, warnings


def load_tensorrt(library: TensorRtName) -> TensorRt:
    """Imports a library; makes no object of it yet, so that nothing can abort where there is no driver.

    Raises:
        InputError: it is not installed, a shared library of it is missing (named), or its version is not supported.
    """
    require_library(library)
    try:
        module = importlib.import_module(MODULES[library])
    except (ImportError, OSError) as error:
        # The package is there; a library of it is not. Which one matters: on a Jetson it may be the DLA compiler.
        raise InputError(
            f"`{MODULES[library]}` is installed but does not load: {error}", remedy=INSTALL[library]
        ) from None
    return TensorRt(library, module)


def require_gpu(library: TensorRtName, purpose: str) -> CudaDriver:
    """The driver, where it works.

    Raises:
        InputError: there is none, or no GPU. To go on without would end the process, not the call.
    """
    driver = probe_cuda()
    if driver.problem:
        raise InputError(
            f"{TITLES[library]} needs a GPU to {purpose}: {driver.problem}",
            remedy="use --engine onnxruntime or openvino on this machine",
        )
    return driver


def numpy_dtype(kind: Any) -> str:
    """NumPy's name of a member of ``DataType``, or the library's where NumPy has none."""
    name = str(kind).rpartition(".")[2].lower()
    return {"float": "float32", "half": "float16"}.get(name, name)


@lru_cache(maxsize=4)
def _logger(module: Any) -> Any:
    """The one logger of a library: it keeps the first it is given for the life of the process."""

    severities = module.ILogger.Severity

    class Log(module.ILogger):  # type: ignore[misc]  # the package has no types
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []
            self.warnings: list[str] = []

        def log(self, severity: object, message: str) -> None:
            if severity in (severities.INTERNAL_ERROR, severities.ERROR):
                self.errors.append(message)
            elif severity == severities.WARNING:
                self.warnings.append(message)

    return Log()
