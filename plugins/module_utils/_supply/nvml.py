# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPUs from the driver's own library, without starting a process.

The library is handed in, so that a stand-in can take its place in tests. Constants and layouts are
those of NVML's C interface, whose version 1 structures never change.
"""

from __future__ import annotations

import ctypes
import re
from dataclasses import replace
from typing import Any

from .gpu import Gpu, GpuReport, MigInstance, has_no_memory

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


LOST = 15
COMPUTE_MODES = {0: "Default", 1: "Exclusive_Thread", 2: "Prohibited", 3: "Exclusive_Process"}
FABRIC_COMPLETED = 3
# The two bits of each statement of a fabric's health mask: 1 is yes.
FABRIC_ILLS = {
    0: "bandwidth degraded",
    2: "route recovery in progress",
    4: "route unhealthy",
    6: "access timeout recovery",
}
RECOVERY_FIELD = 230  # NVML_FI_DEV_GET_GPU_RECOVERY_ACTION
RECOVERY_ACTIONS = {0: "None", 1: "Reset", 2: "Reboot", 3: "Drain P2P", 4: "Drain and Reset"}
# NVIDIA A100-SXM4-80GB MIG 1g.10gb
MIG_NAME = re.compile(r"\bMIG (\S+)$")
ADDRESSING_MODES = {1: "HMM", 2: "ATS"}


class Memory(ctypes.Structure):
    """nvmlMemory_t."""

    _fields_ = [
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    ]


class MemoryWithReserve(ctypes.Structure):
    """nvmlMemory_v2_t: what the driver keeps for itself is no use by processes here."""

    _fields_ = [
        ("version", ctypes.c_uint),
        ("total", ctypes.c_ulonglong),
        ("reserved", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    ]


class Fabric(ctypes.Structure):
    """nvmlGpuFabricInfo_v2_t."""

    _fields_ = [
        ("version", ctypes.c_uint),
        ("cluster", ctypes.c_ubyte * 16),
        ("status", ctypes.c_uint),
        ("clique", ctypes.c_uint),
        ("state", ctypes.c_ubyte),
        ("health", ctypes.c_uint),
    ]


class FieldValue(ctypes.Structure):
    """nvmlFieldValue_t."""

    _fields_ = [
        ("field", ctypes.c_uint),
        ("scope", ctypes.c_uint),
        ("timestamp", ctypes.c_longlong),
        ("latency", ctypes.c_longlong),
        ("type", ctypes.c_uint),
        ("code", ctypes.c_uint),
        ("value", ctypes.c_ulonglong),
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


class GpuInstance(ctypes.Structure):
    """nvmlGpuInstanceInfo_t."""

    _fields_ = [
        ("device", ctypes.c_void_p),
        ("id", ctypes.c_uint),
        ("profile", ctypes.c_uint),
        ("start", ctypes.c_uint),
        ("size", ctypes.c_uint),
    ]


class NvmlError(Exception):
    """NVML as a whole cannot be used; reads as a sentence."""


class _Device:
    """Getters over one handle; what a card does not answer is noted with the driver's reason."""

    def __init__(self, library: Any, handle: ctypes.c_void_p) -> None:
        self._library = library
        self._handle = handle
        self.unknown: list[str] = []
        self.lost = False

    def _ask(self, function: str, *arguments: Any) -> bool:
        """Call what only newer drivers or some cards have: nothing is noted where they have not."""
        call = getattr(self._library, function, None)
        if call is None:
            return False
        code = call(self._handle, *arguments)
        self.lost = self.lost or code == LOST
        return bool(code == SUCCESS)

    def _call(self, name: str, function: str, *arguments: Any) -> bool:
        try:
            code = getattr(self._library, function)(self._handle, *arguments)
        except AttributeError:
            self.unknown.append(f"{name}: this driver is too old to say")
            return False
        self.lost = self.lost or code == LOST
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

    def memory(self) -> Memory | MemoryWithReserve | None:
        newer = MemoryWithReserve()
        newer.version = ctypes.sizeof(MemoryWithReserve) | (2 << 24)
        if self._ask("nvmlDeviceGetMemoryInfo_v2", ctypes.byref(newer)):
            return newer
        value = Memory()
        found = self._call("memory_mib", "nvmlDeviceGetMemoryInfo", ctypes.byref(value))
        return value if found else None

    def bus_id(self) -> str | None:
        value = Pci()
        found = self._call("pci_bus_id", "nvmlDeviceGetPciInfo_v3", ctypes.byref(value))
        return bytes(value.bus_id).decode() if found else None

    def processes(self) -> int | None:
        """Those that compute and those that draw, as nvidia-smi lists them."""
        counts = [self._count_of("Compute"), self._count_of("Graphics")]
        known = [count for count in counts if count is not None]
        if counts[0] is None and not sum(known):
            self.unknown.append("processes: the driver does not report it")
            return None
        return sum(known)

    def _count_of(self, kind: str) -> int | None:
        """The call says how many there are when it is given no room for them."""
        for function in (
            f"nvmlDeviceGet{kind}RunningProcesses_v3",
            f"nvmlDeviceGet{kind}RunningProcesses",
        ):
            count = ctypes.c_uint(0)
            call = getattr(self._library, function, None)
            if call is None:
                continue
            code = call(self._handle, ctypes.byref(count), None)
            self.lost = self.lost or code == LOST
            if code in (SUCCESS, 7):
                return int(count.value)
        return None

    def utilisation(self) -> float | None:
        values = (ctypes.c_uint * 2)()
        found = self._call(
            "utilisation_percent", "nvmlDeviceGetUtilizationRates", ctypes.byref(values)
        )
        return float(values[0]) if found else None

    def remapped_rows(self) -> tuple[bool, bool] | None:
        """Whether rows wait to be remapped, and whether remapping has failed."""
        values = [ctypes.c_uint() for _value in range(4)]
        if not self._ask("nvmlDeviceGetRemappedRows", *(ctypes.byref(value) for value in values)):
            return None
        return bool(values[2].value), bool(values[3].value)

    def repair_pending(self) -> bool | None:
        """Whether the memory waits for a repair that needs a restart."""
        value = (ctypes.c_uint * 3)(12 | (1 << 24), 0, 0)  # version, channel, processing cluster
        asked = self._ask("nvmlDeviceGetRepairStatus", ctypes.byref(value))
        return bool(value[1] or value[2]) if asked else None

    def fabric_problem(self) -> str | None:
        """What is wrong between the card and the others of its fabric."""
        value = Fabric()
        value.version = ctypes.sizeof(Fabric) | (2 << 24)
        if not self._ask("nvmlDeviceGetGpuFabricInfoV", ctypes.byref(value)) or not value.state:
            return None
        wrong = []
        if value.state != FABRIC_COMPLETED:
            wrong.append(f"state {value.state}")
        elif value.status != SUCCESS:
            wrong.append(f"status {ERRORS.get(value.status, f'error {value.status}')}")
        wrong += [ill for at, ill in FABRIC_ILLS.items() if value.health >> at & 3 == 1]
        if value.health >> 8 & 15 > 1:
            wrong.append("incorrect configuration")
        return ", ".join(wrong) or None

    def recovery_action(self) -> str | None:
        """What the driver wants done before the card is used again."""
        value = FieldValue()
        value.field = RECOVERY_FIELD
        if not self._ask("nvmlDeviceGetFieldValues", ctypes.c_int(1), ctypes.byref(value)):
            return None
        if value.code != SUCCESS:
            return None
        return RECOVERY_ACTIONS.get(int(value.value) & 0xFFFFFFFF)

    def addressing_mode(self) -> str | None:
        """How the card sees the memory of the host: ATS where the two are one address space."""
        value = (ctypes.c_uint * 2)(8 | (1 << 24), 0)  # version, mode
        asked = self._ask("nvmlDeviceGetAddressingMode", ctypes.byref(value))
        return ADDRESSING_MODES.get(int(value[1])) if asked else None

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
            number = instance.whole("id", "nvmlDeviceGetGpuInstanceId")
            named = MIG_NAME.search(instance.text("name", "nvmlDeviceGetName") or "")
            found.append(
                MigInstance(
                    gpu_instance_id=number,
                    compute_instance_id=instance.whole("id", "nvmlDeviceGetComputeInstanceId"),
                    memory_mib=memory.total // 2**20 if memory else None,
                    memory_used_mib=memory.used // 2**20 if memory else None,
                    multiprocessors=int(attributes.multiprocessors) if known else None,
                    uuid=instance.text("uuid", "nvmlDeviceGetUUID"),
                    profile=named[1] if named else None,
                    start=None if number is None else self._start_of(number),
                )
            )
        return tuple(found)

    def _start_of(self, number: int) -> int | None:
        """The first slice of memory of a GPU instance; the driver tells it to root alone."""
        handle, told = ctypes.c_void_p(), GpuInstance()
        if not self._ask(
            "nvmlDeviceGetGpuInstanceById", ctypes.c_uint(number), ctypes.byref(handle)
        ):
            return None
        call = getattr(self._library, "nvmlGpuInstanceGetInfo", None)
        if call is None or call(handle, ctypes.byref(told)) != SUCCESS:
            return None
        return int(told.start)


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
    model = device.text("model", "nvmlDeviceGetName")
    rows, addressing = device.remapped_rows(), device.addressing_mode()
    mode = device.whole("compute_mode", "nvmlDeviceGetComputeMode")
    found = Gpu(
        index=index,
        vendor="NVIDIA",
        model=model,
        uuid=device.text("uuid", "nvmlDeviceGetUUID"),
        pci_bus_id=device.bus_id(),
        minor=device.whole("minor", "nvmlDeviceGetMinorNumber"),
        architecture=ARCHITECTURES.get(architecture) if architecture is not None else None,
        memory_mib=memory.total // 2**20 if memory else None,
        memory_used_mib=memory.used // 2**20 if memory else None,
        memory_free_mib=memory.free // 2**20 if memory else None,
        memory_reserved_mib=(
            memory.reserved // 2**20 if isinstance(memory, MemoryWithReserve) else None
        ),
        memory_shared=has_no_memory(model, addressing, memory is not None),
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
        remapped_rows_pending=None if rows is None else rows[0],
        remapped_rows_failure=None if rows is None else rows[1],
        repair_pending=device.repair_pending(),
        recovery_action=device.recovery_action(),
        fabric_problem=device.fabric_problem(),
        addressing_mode=addressing,
        compute_mode=None if mode is None else COMPUTE_MODES.get(mode, f"mode {mode}"),
        utilisation_percent=device.utilisation(),
        temperature_celsius=device.whole(
            "temperature_celsius", "nvmlDeviceGetTemperature", ctypes.c_int(0)
        ),
        power_limit_watts=None if limit is None else limit / 1000,
        processes=device.processes(),
        driver=driver,
    )
    return replace(found, lost=device.lost, unknown=tuple(device.unknown))


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
