"""What the CUDA driver says of itself, asked through its C interface.

Importing a GPU library, or making one of TensorRT's runtime objects, can abort Python where there is no driver; asking
``libcuda`` by ctypes cannot. So this is asked first.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass

_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR = 75, 76  # CUdevice_attribute


@dataclass(frozen=True)
class CudaDriver:
    """The driver and its devices.

    Attributes:
        version: of CUDA that the driver supports, or empty where there is no driver.
        devices: names.
        problem: why there is none, or none that works.
        compute_capabilities: of ``devices``, as ``8.6``.
    """

    version: str = ""
    devices: tuple[str, ...] = ()
    problem: str = ""
    compute_capabilities: tuple[str, ...] = ()


def library_name() -> str:
    """File name of the driver's library on this system."""
    return "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


def probe_cuda() -> CudaDriver:
    """Asks the driver; starts nothing on a device and never aborts."""
    try:
        driver = ctypes.CDLL(library_name())
    except OSError:
        return CudaDriver(problem=f"no CUDA driver ({library_name()} not found)")
    code = driver.cuInit(0)
    if code != 0:
        return CudaDriver(problem=f"the CUDA driver does not start (cuInit gives {code})")
    number, count = ctypes.c_int(), ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(number))
    driver.cuDeviceGetCount(ctypes.byref(count))
    names, capabilities = [], []
    for index in range(count.value):
        device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
        driver.cuDeviceGet(ctypes.byref(device), index)
        driver.cuDeviceGetName(name, len(name), device)
        names.append(name.value.decode(errors="replace"))
        parts = []
        for attribute in (_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR):
            value = ctypes.c_int()
            driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
            parts.append(str(value.value))
        capabilities.append(".".join(parts))
    problem = "" if names else "the CUDA driver knows no device"
    version = f"{number.value // 1000}.{number.value % 1000 // 10}"
    return CudaDriver(version, tuple(names), problem, tuple(capabilities))
