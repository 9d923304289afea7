"""Device memory, page-locked host memory and one stream: by pycuda, or by the driver alone where pycuda is not.

Both use the device's primary context, which torch, TensorRT and the CUDA runtime share. A context of its own would
break whichever of them comes second in the process. A context is current in one thread, so everything here is called
from the thread that made it; `personsearch.runtime.cuda_owner` is that thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np

from personsearch.core import cuda_driver
from personsearch.runtime.graph import Array

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: the legacy default stream's implicit waits would serialise beside torch
_CAPTURE_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads (torch's) may go on allocating


class CudaError(RuntimeError):
    """A call of the CUDA driver failed."""


def cuda_errors() -> tuple[type[Exception], ...]:
    """What a failed call raises: `CudaError`, and pycuda's own where it is in use."""
    pycuda = sys.modules.get("pycuda.driver")
    return (CudaError,) if pycuda is None else (CudaError, pycuda.Error)


class CudaMemory(Protocol):
    """Buffers of one engine. All calls from the thread that made it."""

    name: str
    stream: int

    def host(self, shape: tuple[int, ...], dtype: str) -> Array:
        """A page-locked array: only from one of these is an asynchronous copy asynchronous."""

    def device(self, size: int) -> int:
        """Address of ``size`` new bytes on the device."""

    def upload(self, address: int, host: Array) -> None:
        """Starts copying a page-locked array to the device."""

    def download(self, host: Array, address: int) -> None:
        """Starts copying device memory to a page-locked array."""

    def synchronise(self) -> None:
        """Waits for everything that was started on the stream."""

    def close(self) -> None:
        """Frees the buffers and leaves the context as it was found."""


def open_memory() -> CudaMemory:
    """pycuda's where it is installed, else the driver's.

    Raises:
        CudaError: the driver refuses.
    """
    return PycudaMemory() if find_spec("pycuda") is not None else DriverMemory()


class PycudaMemory:
    """`CudaMemory` by pycuda, on the primary context of device 0."""

    name = "pycuda"

    def __init__(self) -> None:
        import pycuda.driver as cuda

        self._cuda = cuda
        cuda.init()
        # Not `pycuda.autoinit`, which makes a context of its own.
        self._context = cuda.Device(0).retain_primary_context()
        self._context.push()
        self._stream = cuda.Stream(_NON_BLOCKING)
        self.stream = int(self._stream.handle)
        self._hosts: list[Any] = []
        self._devices: dict[int, Any] = {}

    def host(self, shape: tuple[int, ...], dtype: str) -> Array:
        array: Array = self._cuda.pagelocked_empty(shape, np.dtype(dtype))
        self._hosts.append(array.base)
        return array

    def device(self, size: int) -> int:
        allocation = self._cuda.mem_alloc(size)
        self._devices[int(allocation)] = allocation
        return int(allocation)

    def upload(self, address: int, host: Array) -> None:
        self._cuda.memcpy_htod_async(address, host, self._stream)

    def download(self, host: Array, address: int) -> None:
        self._cuda.memcpy_dtoh_async(host, address, self._stream)

    def synchronise(self) -> None:
        self._stream.synchronize()

    def close(self) -> None:
        # In this order, and here: what pycuda frees later, without its context, aborts the process at exit.
        for allocation in [*self._hosts, *self._devices.values()]:
            allocation.free()
        self._hosts, self._devices = [], {}
        self._stream = None
        self._context.pop()
        # Said, since the object's own end would detach it as if it were no primary context, and leave it retained.
        self._context.detach()
        self._context = None


class DriverMemory:
    """`CudaMemory` by the CUDA driver's own C interface, on the primary context of device 0."""

    name = "CUDA driver"

    def __init__(self) -> None:
        self._call = DriverCalls()
        self._call("cuInit", ctypes.c_uint(0))
        self._device = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(self._device), ctypes.c_int(0))
        context, stream = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._device)
        self._call("cuCtxPushCurrent_v2", context)
        self._call("cuStreamCreate", ctypes.byref(stream), ctypes.c_uint(_NON_BLOCKING))
        self._stream = stream
        self.stream = stream.value or 0
        self._hosts: list[ctypes.c_void_p] = []
        self._devices: list[int] = []

    def host(self, shape: tuple[int, ...], dtype: str) -> Array:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        address = ctypes.c_void_p()
        self._call("cuMemHostAlloc", ctypes.byref(address), ctypes.c_size_t(size), ctypes.c_uint(0))
        self._hosts.append(address)
        content = (ctypes.c_uint8 * size).from_address(address.value or 0)
        array: Array = np.ctypeslib.as_array(content).view(np.dtype(dtype)).reshape(shape)
        return array

    def device(self, size: int) -> int:
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        self._devices.append(address.value)
        return address.value

    def upload(self, address: int, host: Array) -> None:
        source = ctypes.c_void_p(host.ctypes.data)
        self._call("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(address), source, ctypes.c_size_t(host.nbytes), self._stream)

    def download(self, host: Array, address: int) -> None:
        target = ctypes.c_void_p(host.ctypes.data)
        self._call("cuMemcpyDtoHAsync_v2", target, ctypes.c_uint64(address), ctypes.c_size_t(host.nbytes), self._stream)

    def synchronise(self) -> None:
        self._call("cuStreamSynchronize", self._stream)

    def close(self) -> None:
        for address in self._hosts:
            self._call("cuMemFreeHost", address)
        for device in self._devices:
            self._call("cuMemFree_v2", ctypes.c_uint64(device))
        self._hosts, self._devices = [], []
        self._call("cuStreamDestroy_v2", self._stream)
        self._call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))
        self._call("cuDevicePrimaryCtxRelease_v2", self._device)


class CudaGraph:
    """Work on a stream, recorded once and started again as one piece: shapes and addresses stay as they were.

    Recorded through the driver, whoever made the stream: pycuda 2026.1 has no call for it.

    Args:
        stream: its handle.
        work: starts the work on the stream; has run at least once before.

    Raises:
        CudaError: something in it cannot be recorded.
    """

    def __init__(self, stream: int, work: Callable[[], None]) -> None:
        self._call = DriverCalls()
        self._stream = ctypes.c_void_p(stream)
        self._executable = ctypes.c_void_p()
        graph = ctypes.c_void_p()
        self._call("cuStreamBeginCapture_v2", self._stream, ctypes.c_int(_CAPTURE_THREAD_LOCAL))
        try:
            work()
        except BaseException:
            # A stream left recording can never be used again. What was recorded so far goes with it.
            with contextlib.suppress(CudaError):
                self._call("cuStreamEndCapture", self._stream, ctypes.byref(graph))
                self._call("cuGraphDestroy", graph)
            raise
        self._call("cuStreamEndCapture", self._stream, ctypes.byref(graph))
        try:
            self._call("cuGraphInstantiateWithFlags", ctypes.byref(self._executable), graph, ctypes.c_uint64(0))
        finally:
            self._call("cuGraphDestroy", graph)

    def launch(self) -> None:
        """Starts the work on the stream."""
        self._call("cuGraphLaunch", self._executable, self._stream)

    def close(self) -> None:
        """Frees it."""
        self._call("cuGraphExecDestroy", self._executable)


class DriverCalls:
    """Calls of the CUDA driver by name; a result other than success is a `CudaError`.

    Raises:
        CudaError: there is no driver.
    """

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(cuda_driver.library_name())
        except OSError as error:
            raise CudaError(f"no CUDA driver: {error}") from None

    def __call__(self, name: str, *arguments: Any) -> None:
        """Calls ``name``. Every argument is a ctypes value: a bare int would be cut to 32 bits."""
        code = getattr(self._library, name)(*arguments)
        if code != 0:
            text = ctypes.c_char_p()
            self._library.cuGetErrorName(ctypes.c_int(code), ctypes.byref(text))
            raise CudaError(f"{name} gives {(text.value or b'an unknown error').decode()} ({code})")
