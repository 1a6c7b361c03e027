"""Energy of an NVIDIA GPU since its driver was loaded, from the driver's own library.

Four calls by ctypes: the library comes with the driver, its Python bindings would be one more package.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from lavatube.errors import UnsupportedError

LIBRARY = "libnvidia-ml.so.1"


@dataclass
class NvmlMeter:
    """One device's energy counter."""

    library: ctypes.CDLL
    handle: ctypes.c_void_p
    name: str

    def __post_init__(self) -> None:
        self._start = self._millijoules()

    def microjoules(self) -> int:
        """Since the meter was made."""
        return 1000 * (self._millijoules() - self._start)

    def _millijoules(self) -> int:
        value = ctypes.c_ulonglong()
        _check(self.library.nvmlDeviceGetTotalEnergyConsumption(self.handle, ctypes.byref(value)), "energy counter")
        return value.value


def nvml_meter(uuid: str | None, index: int = 0) -> NvmlMeter:
    """Of a device by its UUID, which holds whatever devices a process is shown, or else by number.

    raises: UnsupportedError without NVIDIA's driver, the device, or an energy counter (older than Volta).
    """
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise UnsupportedError(
            "this machine's GPU energy cannot be measured", where="NVML", expected=LIBRARY, got=str(error)
        ) from error
    _check(library.nvmlInit_v2(), "start")
    handle = ctypes.c_void_p()
    if uuid is not None:
        _check(library.nvmlDeviceGetHandleByUUID(uuid.encode(), ctypes.byref(handle)), f"device {uuid}")
    else:
        _check(library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle)), f"device {index}")
    name = ctypes.create_string_buffer(96)
    _check(library.nvmlDeviceGetName(handle, name, ctypes.c_uint(len(name))), "name")
    return NvmlMeter(library, handle, f"NVML, {name.value.decode(errors='replace')}")


def _check(code: int, what: str) -> None:
    if code:
        raise UnsupportedError(
            "this machine's GPU energy cannot be measured", where=f"NVML {what}", got=f"error {code}"
        )
