# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's and Debian's texts, as recorded, give the right values."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._supply import procfs
from hypothesis import given
from hypothesis import strategies as st

CPUINFO = """\
processor\t: 0
model name\t: AMD EPYC
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu sse4_2 avx avx2 avx512f hypervisor

processor\t: 1
model name\t: AMD EPYC
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu sse4_2 avx avx2 avx512f hypervisor

processor\t: 2
model name\t: AMD EPYC
physical id\t: 1
core id\t\t: 0
flags\t\t: fpu sse4_2 avx avx2 avx512f hypervisor
"""
ARM = """\
processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd asimddp

processor\t: 1
BogoMIPS\t: 108.00
Features\t: fp asimd asimddp
"""


def test_threads_share_cores_and_cores_share_sockets() -> None:
    cpu = procfs.parse_cpuinfo(CPUINFO)
    assert (cpu.model, cpu.sockets, cpu.cores, cpu.threads) == ("AMD EPYC", 2, 2, 3)
    assert cpu.flags == ("sse4_2", "avx", "avx2", "avx512f")


def test_what_an_arm_kernel_does_not_tell_is_unknown() -> None:
    cpu = procfs.parse_cpuinfo(ARM)
    assert (cpu.model, cpu.sockets, cpu.cores, cpu.threads) == (None, None, None, 2)
    assert cpu.flags == ("asimd", "asimddp")


def test_memory_is_what_the_kernel_calls_available() -> None:
    memory = procfs.parse_meminfo(
        "MemTotal: 8388608 kB\nMemFree: 100 kB\nMemAvailable: 4194304 kB\nSwapTotal: 0 kB\n"
        "SwapFree: 0 kB\nHugePages_Total: 4\nHugePages_Free: 3\nHugepagesize: 2048 kB\n"
    )
    assert (memory.total_mib, memory.available_mib, memory.swap_total_mib) == (8192, 4096, 0)
    assert (memory.hugepages_total, memory.hugepages_free, memory.hugepage_kib) == (4, 3, 2048)


def test_an_old_kernels_missing_estimate_is_unknown() -> None:
    assert procfs.parse_meminfo("MemTotal: 1024 kB\nMemFree: 512 kB\n").available_mib is None


def test_mounts_of_data_are_kept_and_the_last_one_on_a_path_counts() -> None:
    mounts = procfs.parse_mountinfo(
        "22 27 0:21 / /proc rw - proc proc rw\n"
        "27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
        "28 27 254:1 / /srv rw - ext4 /dev/vdb rw\n"
        "29 27 254:2 / /srv ro - ext4 /dev/vdc ro\n"
        "30 27 254:3 / /with\\040blank rw - xfs /dev/vdd rw\n"
    )
    assert [(mount.path, mount.device, mount.read_only) for mount in mounts] == [
        ("/", "254:0", False),
        ("/srv", "254:2", True),
        ("/with blank", "254:3", False),
    ]


def test_listening_sockets_are_told_from_connections() -> None:
    text = (
        "  sl  local_address rem_address   st\n"
        "   0: 0100007F:238D 00000000:0000 0A 0:0 0:0 0 113 0 4242 1 0 100 0 0 10 0\n"
        "   1: 0100007F:238D 0100007F:9999 01 0:0 0:0 0 113 0 4243 1 0 100 0 0 10 0\n"
    )
    assert procfs.parse_sockets(text, "tcp") == (procfs.Socket("tcp", "127.0.0.1", 9101, 4242),)


def test_addresses_of_version_6_are_read() -> None:
    line = "   0: {}:01BB 0:0 0A 0:0 0:0 0 0 0 7 1 0 100 0 0 10 0\n"
    for raw, address in (
        ("0" * 32, "::"),
        ("00000000000000000000000001000000", "::1"),
        ("0000000000000000FFFF00000100007F", "127.0.0.1"),
    ):
        found = procfs.parse_sockets("head\n" + line.format(raw), "tcp6")
        assert found == (procfs.Socket("tcp", address, 443, 7),)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("0::/mlops.slice/mlops-nginx.service\n", "/mlops.slice/mlops-nginx.service"),
        ("9:name=systemd:/mlops.slice/x.service\n8:pids:/\n0::/\n", "/mlops.slice/x.service"),
        ("1:name=systemd:/\n0::/system.slice/ssh.service\n", "/system.slice/ssh.service"),
    ],
)
def test_control_groups_of_both_versions(text: str, path: str) -> None:
    assert procfs.parse_cgroup(text) == path


def test_ours_is_what_is_in_our_slice_and_nothing_else() -> None:
    assert procfs.is_ours("/mlops.slice/mlops-nginx.service")
    assert procfs.is_ours("/machine.slice/x.scope/mlops.slice/a.service")
    assert not procfs.is_ours("/system.slice/notmlops.slice.service")
    assert procfs.unit_of("/mlops.slice/mlops-nginx.service") == "mlops-nginx.service"
    assert procfs.unit_of("/") == ""


def test_the_name_of_a_process_may_hold_brackets() -> None:
    fields = " ".join(["S", "7", *["0"] * 9, "30", "20", *["0"] * 6, "500"])
    stat = procfs.parse_process_stat(f"42 (a) b (c) {fields}")
    assert stat == procfs.ProcessStat("a) b (c", 7, 50, 500)
    assert procfs.parse_process_stat("42 (broken") is None


def test_memory_of_a_process_leaves_out_file_pages() -> None:
    assert procfs.parse_own_memory_kib("Pss: 900 kB\nPss_Anon: 100 kB\nPss_Shmem: 5 kB\n") == 105
    assert procfs.parse_own_memory_kib("VmRSS: 900 kB\nRssAnon: 80 kB\nRssShmem: 1 kB\n") == 81
    assert procfs.parse_own_memory_kib("Name: kthreadd\n") is None


def test_half_installed_packages_are_found() -> None:
    state = procfs.parse_dpkg_status(
        "Package: a\nStatus: install ok installed\nInstalled-Size: 2048\n\n"
        "Package: b\nStatus: install ok half-configured\n\n"
        "Package: c\nStatus: install reinstreq half-installed\n\n"
        "Package: d\nStatus: deinstall ok config-files\n"
    )
    assert state.broken == ("b (half-configured)", "c (reinstreq)")
    assert state.sizes_mib == {"a": 2.0}


def test_limits_of_control_groups() -> None:
    assert procfs.parse_cpu_max("150000 100000\n") == 1.5
    assert procfs.parse_cpu_max("max 100000\n") is None
    assert procfs.parse_limit_mib("1073741824\n") == 1024
    assert procfs.parse_limit_mib("max\n") is None


def test_free_numbers_of_system_users() -> None:
    assert procfs.parse_system_uids("root:x:0:0::/:\na:x:100:1::/:\nb:x:999:1::/:\n") == 898


def test_kinds_of_machines() -> None:
    def kind(cpuinfo: str = "", dmi: str = "", environment: str = "", marker: str = "") -> object:
        found = procfs.parse_hypervisor(cpuinfo, [dmi], environment, [marker] if marker else [], "")
        return found["kind"], found["name"]

    assert kind(environment="HOME=/\0container=podman") == ("container", "podman")
    assert kind(marker="docker") == ("container", "docker")
    assert kind(dmi="QEMU") == ("vm", "qemu")
    assert kind(cpuinfo=CPUINFO) == ("vm", None)
    assert kind(dmi="Dell Inc. PowerEdge R750") == ("none", None)


def test_members_of_a_bond() -> None:
    bond = procfs.parse_bond(
        "Bonding Mode: IEEE 802.3ad Dynamic link aggregation\nMII Status: up\n\n"
        "Slave Interface: eno1\nMII Status: up\nSlave Interface: eno2\nMII Status: down\n"
    )
    assert bond == {
        "mode": "IEEE 802.3ad Dynamic link aggregation",
        "members": [{"name": "eno1", "state": "up"}, {"name": "eno2", "state": "down"}],
    }


@given(st.text())
def test_no_text_makes_a_parser_fail(text: str) -> None:
    procfs.parse_cpuinfo(text)
    procfs.parse_meminfo(text)
    procfs.parse_mountinfo(text)
    procfs.parse_cgroup(text)
    procfs.parse_process_stat(text)
    procfs.parse_own_memory_kib(text)
    procfs.parse_os_release(text)
    procfs.parse_dpkg_status(text)
    procfs.parse_system_uids(text)
    procfs.parse_cpu_max(text)
    procfs.parse_limit_mib(text)
    procfs.parse_bond(text)
