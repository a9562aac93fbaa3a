# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPUs from the driver's own library, without starting a process.

The library is handed in, so that a stand-in can take its place in tests. Constants and layouts are
those of NVML's C interface, whose version 1 structures never change.
"""

from __future__ import annotations

import ctypes
from typing import Any

from .gpu import Gpu, GpuReport, MigInstance

LIBRARY = "libnvidia-ml.so.1"
SUCCESS = 0
ARCHITECTURES = {
    2: "Kepler",
    3: "Maxwell",
    4: "Pascal",
    5: "Volta",
    6: "Turing",
    7: "Ampere",
    8: "Ada Lovelace",
    9: "Hopper",
    10: "Blackwell",
}
ERRORS = {
    1: "the library is not initialised",
    2: "an argument is invalid",
    3: "not supported by this card",
    4: "no permission",
    6: "not found",
    9: "the driver is not loaded",
    15: "the card is lost; reboot the host",
    18: "library and driver are of different versions; reboot the host",
    999: "unknown error of the driver",
}


class Memory(ctypes.Structure):
    """nvmlMemory_t."""

    _fields_ = [
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    ]


class Pci(ctypes.Structure):
    """nvmlPciInfo_t."""

    _fields_ = [
        ("legacy", ctypes.c_char * 16),
        ("domain", ctypes.c_uint),
        ("bus", ctypes.c_uint),
        ("device", ctypes.c_uint),
        ("device_id", ctypes.c_uint),
        ("subsystem", ctypes.c_uint),
        ("bus_id", ctypes.c_char * 32),
    ]


class MigAttributes(ctypes.Structure):
    """nvmlDeviceAttributes_t."""

    _fields_ = [
        ("multiprocessors", ctypes.c_uint),
        ("copy_engines", ctypes.c_uint),
        ("decoders", ctypes.c_uint),
        ("encoders", ctypes.c_uint),
        ("jpegs", ctypes.c_uint),
        ("ofas", ctypes.c_uint),
        ("gpu_slices", ctypes.c_uint),
        ("compute_slices", ctypes.c_uint),
        ("memory_mib", ctypes.c_ulonglong),
    ]


class NvmlError(Exception):
    """NVML as a whole cannot be used; reads as a sentence."""


class _Device:
    """Getters over one handle; what a card does not answer is noted with the driver's reason."""

    def __init__(self, library: Any, handle: ctypes.c_void_p) -> None:
        self._library = library
        self._handle = handle
        self.unknown: list[str] = []

    def _call(self, name: str, function: str, *arguments: Any) -> bool:
        try:
            code = getattr(self._library, function)(self._handle, *arguments)
        except AttributeError:
            self.unknown.append(f"{name}: this driver is too old to say")
            return False
        if code != SUCCESS:
            self.unknown.append(f"{name}: {ERRORS.get(code, f'error {code} of the driver')}")
            return False
        return True

    def text(self, name: str, function: str, size: int = 96) -> str | None:
        buffer = ctypes.create_string_buffer(size)
        found = self._call(name, function, buffer, ctypes.c_uint(size))
        return buffer.value.decode("utf-8", "replace") if found else None

    def whole(self, name: str, function: str, *before: Any) -> int | None:
        value = ctypes.c_uint()
        return (
            int(value.value) if self._call(name, function, *before, ctypes.byref(value)) else None
        )

    def long(self, name: str, function: str, *before: Any) -> int | None:
        value = ctypes.c_ulonglong()
        return (
            int(value.value) if self._call(name, function, *before, ctypes.byref(value)) else None
        )

    def pair(self, name: str, function: str) -> tuple[int, int] | None:
        first, second = ctypes.c_uint(), ctypes.c_uint()
        if not self._call(name, function, ctypes.byref(first), ctypes.byref(second)):
            return None
        return int(first.value), int(second.value)

    def memory(self) -> Memory | None:
        value = Memory()
        found = self._call("memory_mib", "nvmlDeviceGetMemoryInfo", ctypes.byref(value))
        return value if found else None

    def bus_id(self) -> str | None:
        value = Pci()
        found = self._call("pci_bus_id", "nvmlDeviceGetPciInfo_v3", ctypes.byref(value))
        return bytes(value.bus_id).decode() if found else None

    def processes(self) -> int | None:
        """The call says how many there are when it is given no room for them."""
        count = ctypes.c_uint(0)
        for function in (
            "nvmlDeviceGetComputeRunningProcesses_v3",
            "nvmlDeviceGetComputeRunningProcesses",
        ):
            call = getattr(self._library, function, None)
            if call is not None and call(self._handle, ctypes.byref(count), None) in (SUCCESS, 7):
                return int(count.value)
        self.unknown.append("processes: the driver does not report it")
        return None

    def mig_instances(self) -> tuple[MigInstance, ...]:
        room = self.whole("mig_instances", "nvmlDeviceGetMaxMigDeviceCount") or 0
        found = []
        for index in range(room):
            handle = ctypes.c_void_p()
            if (
                self._library.nvmlDeviceGetMigDeviceHandleByIndex(
                    self._handle, ctypes.c_uint(index), ctypes.byref(handle)
                )
                != SUCCESS
            ):
                continue
            instance = _Device(self._library, handle)
            memory = instance.memory()
            attributes = MigAttributes()
            known = instance._call(
                "multiprocessors", "nvmlDeviceGetAttributes_v2", ctypes.byref(attributes)
            )
            found.append(
                MigInstance(
                    gpu_instance_id=instance.whole("id", "nvmlDeviceGetGpuInstanceId"),
                    compute_instance_id=instance.whole("id", "nvmlDeviceGetComputeInstanceId"),
                    memory_mib=memory.total // 2**20 if memory else None,
                    memory_used_mib=memory.used // 2**20 if memory else None,
                    multiprocessors=int(attributes.multiprocessors) if known else None,
                )
            )
        return tuple(found)


def _switch(value: int | None) -> str | None:
    return None if value is None else ("Enabled" if value else "Disabled")


def _gpu(library: Any, index: int, handle: ctypes.c_void_p, driver: str | None) -> Gpu:
    device = _Device(library, handle)
    memory = device.memory()
    mig = device.pair("mig_mode", "nvmlDeviceGetMigMode")
    ecc = device.pair("ecc_mode", "nvmlDeviceGetEccMode")
    architecture = device.whole("architecture", "nvmlDeviceGetArchitecture")
    pending = device.whole("retired_pages_pending", "nvmlDeviceGetRetiredPagesPendingStatus")
    limit = device.whole("power_limit_watts", "nvmlDeviceGetEnforcedPowerLimit")
    return Gpu(
        index=index,
        vendor="NVIDIA",
        model=device.text("model", "nvmlDeviceGetName"),
        uuid=device.text("uuid", "nvmlDeviceGetUUID"),
        pci_bus_id=device.bus_id(),
        architecture=ARCHITECTURES.get(architecture) if architecture is not None else None,
        memory_mib=memory.total // 2**20 if memory else None,
        memory_used_mib=memory.used // 2**20 if memory else None,
        memory_free_mib=memory.free // 2**20 if memory else None,
        pcie_generation_now=device.whole(
            "pcie_generation_now", "nvmlDeviceGetCurrPcieLinkGeneration"
        ),
        pcie_generation_max=device.whole(
            "pcie_generation_max", "nvmlDeviceGetMaxPcieLinkGeneration"
        ),
        pcie_width_now=device.whole("pcie_width_now", "nvmlDeviceGetCurrPcieLinkWidth"),
        pcie_width_max=device.whole("pcie_width_max", "nvmlDeviceGetMaxPcieLinkWidth"),
        mig_mode=_switch(mig[0]) if mig else None,
        mig_pending=_switch(mig[1]) if mig else None,
        mig_instances=device.mig_instances() if mig and mig[0] else (),
        ecc_mode=_switch(ecc[0]) if ecc else None,
        # 1: uncorrected errors, 1: since the counters were last reset.
        ecc_uncorrected=device.long(
            "ecc_uncorrected", "nvmlDeviceGetTotalEccErrors", ctypes.c_int(1), ctypes.c_int(1)
        )
        if ecc and ecc[0]
        else None,
        retired_pages_pending=None if pending is None else bool(pending),
        temperature_celsius=device.whole(
            "temperature_celsius", "nvmlDeviceGetTemperature", ctypes.c_int(0)
        ),
        power_limit_watts=None if limit is None else limit / 1000,
        processes=device.processes(),
        driver=driver,
        unknown=tuple(device.unknown),
    )


def open_library() -> Any:
    """The driver's library; OSError if it is not installed."""
    return ctypes.CDLL(LIBRARY)


def read_nvml(library: Any) -> GpuReport:
    """Ask for every card."""
    code = library.nvmlInit_v2()
    if code != SUCCESS:
        raise NvmlError(f"NVML does not start: {ERRORS.get(code, f'error {code} of the driver')}")
    try:
        buffer = ctypes.create_string_buffer(96)
        driver = None
        if library.nvmlSystemGetDriverVersion(buffer, ctypes.c_uint(96)) == SUCCESS:
            driver = buffer.value.decode()
        number = ctypes.c_int()
        cuda = None
        if library.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(number)) == SUCCESS:
            cuda = f"{number.value // 1000}.{number.value % 1000 // 10}"
        count = ctypes.c_uint()
        code = library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        if code != SUCCESS:
            raise NvmlError(f"NVML does not count cards: {ERRORS.get(code, f'error {code}')}")
        gpus, lost = [], []
        for index in range(count.value):
            handle = ctypes.c_void_p()
            code = library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle))
            if code == SUCCESS:
                gpus.append(_gpu(library, index, handle, driver))
            else:
                lost.append(f"card {index}: {ERRORS.get(code, f'error {code}')}")
        return GpuReport("nvml", driver, cuda, tuple(gpus), "; ".join(lost) or None)
    finally:
        library.nvmlShutdown()
