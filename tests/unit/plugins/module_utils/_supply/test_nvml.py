# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The driver's library, played by a tiny one compiled here and fed from a recorded output.

This exercises the calls and layouts of NVML without a GPU. It cannot show that a real driver
answers the same way.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._supply import nvml
from ansible_collections.mlops.onprem.plugins.module_utils._supply.gpu import parse_nvidia_smi

FIXTURES = Path(__file__).resolve().parents[4] / "fixtures" / "nvidia_smi"
SOURCE = r"""
#include <stdio.h>
#include <string.h>
typedef void *dev;
typedef struct { unsigned long long total, free, used; } memory;
typedef struct { char legacy[16]; unsigned a, b, c, d, e; char bus[32]; } pci;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory2;
typedef struct { unsigned sm, v[7]; unsigned long long mib; } attributes;
typedef struct { unsigned version; unsigned char id[16]; unsigned status, clique;
  unsigned char state; unsigned health; } fabric;
typedef struct { unsigned field, scope; long long time, latency; unsigned type, code;
  union { unsigned ui; unsigned long long ull; } value; } field;
int nvmlInit_v2(void) { return START; }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *s, unsigned n) { strncpy(s, DRIVER, n); return 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *v) { *v = CUDA; return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, dev *d) { *d = (dev)1; return i == 0 ? 0 : 15; }
int nvmlDeviceGetName(dev d, char *s, unsigned n) {
  strncpy(s, d == (dev)1 ? NAME : NAME " MIG 1g.20gb", n); return 0; }
int nvmlDeviceGetUUID(dev d, char *s, unsigned n) {
  if (d == (dev)1) strncpy(s, UUID, n); else snprintf(s, n, "MIG-%d", (int)(long)d - 10);
  return 0; }
#ifndef OLD
typedef struct { dev card; unsigned id, profile, start, size; } gpu_instance;
int nvmlDeviceGetGpuInstanceById(dev d, unsigned id, dev *i) {
  *i = (dev)(long)(100 + id); return id < 3 ? 6 : 0; }
int nvmlGpuInstanceGetInfo(dev i, gpu_instance *into) {
  into->id = (long)i - 100; into->start = 2 * (into->id - 3); into->size = 2; return ROOTLESS; }
#endif
int nvmlDeviceGetMinorNumber(dev d, unsigned *v) { *v = MINOR; return NAMELESS; }
int nvmlDeviceGetPciInfo_v3(dev d, pci *p) { strcpy(p->bus, BUS); return 0; }
int nvmlDeviceGetMemoryInfo(dev d, memory *m) {
  unsigned long long mib = 1048576ULL;
  if (d == (dev)1) { m->total = TOTAL * mib; m->free = FREE * mib; m->used = USED * mib; }
  else { m->total = 19968 * mib; m->free = 19955 * mib; m->used = 12 * mib; }
  return 0; }
#ifndef OLD
int nvmlDeviceGetMemoryInfo_v2(dev d, memory2 *m) {
  unsigned long long mib = 1048576ULL;
  if (m->version != (sizeof(memory2) | (2 << 24))) return 25;
  if (d == (dev)1) { m->total = TOTAL * mib; m->free = FREE * mib; m->used = USED * mib;
    m->reserved = RESERVED * mib; }
  else { m->total = 19968 * mib; m->free = 19955 * mib; m->used = 12 * mib; }
  return LOST ? 15 : 0; }
int nvmlDeviceGetRemappedRows(dev d, unsigned *c, unsigned *u, unsigned *p, unsigned *f) {
  *c = 1; *u = 2; *p = PENDING; *f = FAILED; return ROWS; }
int nvmlDeviceGetRepairStatus(dev d, unsigned *v) {
  if (v[0] != (12 | (1 << 24))) return 25;
  v[1] = 0; v[2] = REPAIR; return REPAIR < 0 ? 3 : 0; }
int nvmlDeviceGetGpuFabricInfoV(dev d, fabric *f) {
  if (f->version != (sizeof(fabric) | (2 << 24))) return 25;
  f->state = FABRIC; f->status = 0; f->health = HEALTH; return 0; }
int nvmlDeviceGetFieldValues(dev d, int n, field *f) {
  f->code = f->field == 230 && ACTION >= 0 ? 0 : 3; f->value.ui = ACTION; return 0; }
int nvmlDeviceGetAddressingMode(dev d, unsigned *v) {
  if (v[0] != (8 | (1 << 24))) return 25;
  v[1] = ADDRESSING; return 0; }
#endif
int nvmlDeviceGetComputeMode(dev d, unsigned *v) { *v = MODE; return 0; }
int nvmlDeviceGetUtilizationRates(dev d, unsigned *v) { return 3; }
int nvmlDeviceGetGraphicsRunningProcesses_v3(dev d, unsigned *n, void *p) {
  *n = DRAWING; return DRAWING ? 7 : 0; }
int nvmlDeviceGetArchitecture(dev d, unsigned *v) { *v = 7; return 0; }
int nvmlDeviceGetCurrPcieLinkGeneration(dev d, unsigned *v) { *v = 4; return 0; }
int nvmlDeviceGetMaxPcieLinkGeneration(dev d, unsigned *v) { *v = 4; return 0; }
int nvmlDeviceGetCurrPcieLinkWidth(dev d, unsigned *v) { *v = 16; return 0; }
int nvmlDeviceGetMaxPcieLinkWidth(dev d, unsigned *v) { *v = 16; return 0; }
int nvmlDeviceGetMigMode(dev d, unsigned *a, unsigned *b) { *a = 1; *b = 1; return 0; }
int nvmlDeviceGetMaxMigDeviceCount(dev d, unsigned *v) { *v = 7; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(dev d, unsigned i, dev *m) {
  if (i > 3) return 6;
  *m = (dev)(long)(10 + i); return 0; }
int nvmlDeviceGetGpuInstanceId(dev d, unsigned *v) { *v = (unsigned)(long)d - 10 + 3; return 0; }
int nvmlDeviceGetComputeInstanceId(dev d, unsigned *v) { *v = 0; return 0; }
int nvmlDeviceGetAttributes_v2(dev d, attributes *a) { a->sm = 14; return 0; }
int nvmlDeviceGetEccMode(dev d, unsigned *a, unsigned *b) { *a = 1; *b = 1; return 0; }
int nvmlDeviceGetTotalEccErrors(dev d, int t, int c, unsigned long long *v) { *v = 0; return 0; }
int nvmlDeviceGetRetiredPagesPendingStatus(dev d, unsigned *v) { return 3; }
int nvmlDeviceGetTemperature(dev d, int s, unsigned *v) { *v = 27; return 0; }
int nvmlDeviceGetEnforcedPowerLimit(dev d, unsigned *v) { *v = 500000; return 0; }
int nvmlDeviceGetComputeRunningProcesses_v3(dev d, unsigned *n, void *p) { *n = 0; return 0; }
"""


def library(folder: Path, start: int = 0, **more: int) -> ctypes.CDLL:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    gpu = parse_nvidia_smi((FIXTURES / "a100-sxm4-v12.xml").read_text()).gpus[0]
    texts = {"NAME": gpu.model, "UUID": gpu.uuid, "BUS": gpu.pci_bus_id, "DRIVER": gpu.driver}
    numbers = {
        "TOTAL": gpu.memory_mib,
        "FREE": gpu.memory_free_mib,
        "USED": gpu.memory_used_mib,
        "CUDA": 12020,
        "START": start,
        "RESERVED": gpu.memory_reserved_mib,
        "ROWS": 0 if more else 3,
        "PENDING": 0,
        "FAILED": 0,
        "REPAIR": -1,
        "FABRIC": 0,
        "HEALTH": 0,
        "ACTION": -1,
        "ADDRESSING": 0,
        "MODE": 0,
        "DRAWING": 0,
        "LOST": 0,
        "MINOR": gpu.minor,
        "NAMELESS": 0,
        "ROOTLESS": 0,
        **more,
    }
    source, target = folder / "nvml.c", folder / "libnvml.so"
    source.write_text(SOURCE)
    options = [f'-D{key}="{value}"' for key, value in texts.items()]
    options += [f"-D{key}={int(value or 0)}" for key, value in numbers.items()]
    subprocess.run([compiler, "-shared", "-fPIC", "-w", *options, "-o", target, source], check=True)
    return ctypes.CDLL(str(target))


def test_the_library_and_the_program_tell_the_same(tmp_path: Path) -> None:
    report = nvml.read_nvml(library(tmp_path))
    recorded = parse_nvidia_smi((FIXTURES / "a100-sxm4-v12.xml").read_text())
    assert report.driver_version == recorded.driver_version
    assert report.cuda_version == recorded.cuda_version
    one, other = report.gpus[0].as_dict(), recorded.gpus[0].as_dict()
    one.pop("unknown"), other.pop("unknown")
    for row in one["mig_instances"]:  # the program lists these apart
        row.update(uuid=None, profile=None, start=None)
    assert one == other


def test_an_instance_tells_its_name_and_where_it_lies(tmp_path: Path) -> None:
    found = nvml.read_nvml(library(tmp_path)).gpus[0].mig_instances
    assert [(one.uuid, one.profile, one.start) for one in found] == [
        (f"MIG-{at}", "1g.20gb", 2 * at) for at in range(4)
    ]


@pytest.mark.parametrize("more", [{"OLD": 1}, {"ROOTLESS": 4}])
def test_where_an_instance_lies_may_be_unknown(tmp_path: Path, more: dict[str, int]) -> None:
    found = nvml.read_nvml(library(tmp_path, **more)).gpus[0].mig_instances
    assert [(one.uuid, one.start) for one in found] == [(f"MIG-{at}", None) for at in range(4)]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"FAILED": 1}, {"remapped_rows_failure": True, "remapped_rows_pending": False}),
        ({"PENDING": 1}, {"remapped_rows_failure": False, "remapped_rows_pending": True}),
        ({"REPAIR": 1}, {"repair_pending": True}),
        ({"REPAIR": 0}, {"repair_pending": False}),
        ({"MODE": 2}, {"compute_mode": "Prohibited"}),
        ({"MODE": 3}, {"compute_mode": "Exclusive_Process"}),
        ({"ACTION": 1}, {"recovery_action": "Reset"}),
        ({"ACTION": 0}, {"recovery_action": "None"}),
        ({"FABRIC": 3, "HEALTH": 1}, {"fabric_problem": "bandwidth degraded"}),
        ({"FABRIC": 3, "HEALTH": 0x22A}, {"fabric_problem": "incorrect configuration"}),
        ({"FABRIC": 3, "HEALTH": 0x1AA}, {"fabric_problem": None}),
        ({"FABRIC": 2}, {"fabric_problem": "state 2"}),
        ({"ADDRESSING": 2}, {"addressing_mode": "ATS", "memory_shared": False}),
        ({"DRAWING": 2}, {"processes": 2}),
        ({"LOST": 1}, {"lost": True}),
        ({"OLD": 1}, {"remapped_rows_failure": None, "memory_reserved_mib": None, "lost": False}),
    ],
)
def test_the_library_is_asked_for_all_that_the_program_tells(
    tmp_path: Path, more: dict[str, int], said: dict[str, object]
) -> None:
    gpu = nvml.read_nvml(library(tmp_path, **more)).gpus[0].as_dict()
    assert {key: gpu[key] for key in said} == said


def test_what_a_card_does_not_support_is_unknown_with_the_drivers_reason(tmp_path: Path) -> None:
    gpu = nvml.read_nvml(library(tmp_path)).gpus[0]
    assert gpu.retired_pages_pending is None
    assert "retired_pages_pending: not supported by this card" in gpu.unknown


def test_a_driver_without_device_files_tells_no_number_and_the_reason(tmp_path: Path) -> None:
    gpu = nvml.read_nvml(library(tmp_path, NAMELESS=3)).gpus[0]
    assert gpu.minor is None
    assert "minor: not supported by this card" in gpu.unknown


def test_a_lost_card_is_reported(tmp_path: Path) -> None:
    assert nvml.read_nvml(library(tmp_path)).problem == "card 1: the card is lost; reboot the host"


def test_a_library_without_driver_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(nvml.NvmlError, match=r"^NVML does not start: the driver is not loaded$"):
        nvml.read_nvml(library(tmp_path, start=9))
