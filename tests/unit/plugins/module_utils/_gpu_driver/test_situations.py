"""Hosts with GPUs, each with what a run would do about the driver and the sentence it says.

A situation is what the host says: texts of /proc, dkms, dpkg, modinfo and grub in the form that
these programs have. The first line of /proc/driver/nvidia/version, of the closed and the open
module, and the answers of dkms 2 and 3 are as recorded on real machines.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._findings.finding import parse_finding
from ansible_collections.mlops.onprem.plugins.module_utils._gpu_driver import facts
from ansible_collections.mlops.onprem.plugins.module_utils._gpu_driver.condition import guarded
from ansible_collections.mlops.onprem.plugins.module_utils._gpu_driver.facts import Facts, parse
from ansible_collections.mlops.onprem.plugins.module_utils._gpu_driver.verdict import judge
from ansible_collections.mlops.onprem.plugins.module_utils._gpu_driver.wish import Wish

OLD, NEW = "6.12.107+deb13-amd64", "6.12.117+deb13-amd64"
DEBIAN = "Debian NVIDIA Maintainers <pkg-nvidia-devel@lists.alioth.debian.org>"
CUDATOOLS = "cudatools <cudatools@nvidia.com>"
POLICY = """nvidia-kernel-dkms:
  Installed: (none)
  Candidate: 550.163.01-2
nvidia-open-kernel-dkms:
  Installed: (none)
  Candidate: 550.163.01-2
nvidia-tesla-535-kernel-dkms:
  Installed: (none)
  Candidate: 535.274.02-1~deb13u1
nvidia-kernel-open-dkms:
  Installed: (none)
  Candidate: (none)
"""
OF_NVIDIA = """nvidia-kernel-open-dkms:
  Installed: (none)
  Candidate: 580.105.08-1
nvidia-kernel-dkms:
  Installed: (none)
  Candidate: 580.105.08-1
"""
K80, M60, P40, V100, T4 = "0x102d", "0x13f2", "0x1b38", "0x1db4", "0x1eb8"
A100, A40, L40S, H100, GH200 = "0x20b0", "0x2235", "0x26b9", "0x2330", "0x2342"
B200, RTX_PRO, GTX_480, FUTURE = "0x2901", "0x2bb1", "0x06c0", "0x3a00"


def loaded(version: str, is_open: bool = False) -> str:
    kind = "UNIX Open Kernel Module for x86_64" if is_open else "UNIX x86_64 Kernel Module"
    return (
        f"NVRM version: NVIDIA {kind}  {version}  Release Build  (root@host)\n"
        "GCC version:  gcc version 14.2.0 (Debian 14.2.0-19)\n"
    )


def kernel(release: str, module: str = "", is_open: bool = False, **more: Any) -> dict[str, Any]:
    licence = "Dual MIT/GPL" if is_open else "NVIDIA"
    info = f"filename: x\nversion:        {module}\nlicense:        {licence}\n" if module else ""
    return {"release": release, "bootable": True, "headers": True, "modinfo": info, **more}


def cards(*devices: str, vendor: str = "0x10de", driver: str = "nvidia") -> list[list[str]]:
    return [
        [f"0000:{index:02x}:00.0", vendor, device, "0x030200", driver]
        for index, device in enumerate(devices, 0x3B)
    ]


def dpkg(name: str, version: str, state: str = "installed", of: str = DEBIAN) -> str:
    return f"{name}\t{version}\tinstall\t{state}\t{of}\n"


def host(**more: Any) -> dict[str, Any]:
    """A host with an A100 and the closed driver of Debian, where all is well."""
    return {
        "pci": cards(A100),
        "proc_version": loaded("550.163.01"),
        "libraries": ["libnvidia-ml.so.550.163.01", "libcuda.so.550.163.01"],
        "running": NEW,
        "kernels": [kernel(OLD, "550.163.01"), kernel(NEW, "550.163.01")],
        "dkms": f"nvidia/550.163.01, {NEW}, x86_64: installed\n",
        "dpkg": dpkg("nvidia-kernel-dkms", "550.163.01-2") + dpkg("libcuda1", "550.163.01-2"),
        "persistenced": "nvidia-persistenced:  version 550.163.01",
        "modules": ["nvidia", "nvidia_uvm"],
        "secure_boot": False,
        "policy": POLICY,
        **more,
    }


def bare(*devices: str, **more: Any) -> dict[str, Any]:
    """A host with cards and no driver."""
    return host(
        pci=cards(*devices, driver=""),
        proc_version="",
        libraries=[],
        kernels=[kernel(OLD), kernel(NEW)],
        dkms="",
        dpkg="",
        persistenced="",
        modules=[],
        **more,
    )


INSTALL = Wish(mode="install")
NVIDIA = Wish(mode="install", source="nvidia")
RUNFILE = {"dpkg": "", "dkms": "", "runfile": True}

# name, host, wish, action, what one of the sentences says
SITUATIONS: list[tuple[str, dict[str, Any], Wish, str, str]] = [
    (
        "all well",
        host(),
        Wish(),
        "adopt",
        "the driver 550.163.01 from Debian's packages, closed kernel module is adopted",
    ),
    (
        "open module of NVIDIA's repository",
        host(
            pci=cards(H100, H100),
            proc_version=loaded("580.105.08", is_open=True),
            libraries=["libnvidia-ml.so.580.105.08"],
            persistenced="",
            kernels=[kernel(NEW, "580.105.08", is_open=True)],
            dpkg=dpkg("nvidia-kernel-open-dkms", "580.105.08-1", of=CUDATOOLS),
        ),
        Wish(cuda=13),
        "adopt",
        "the driver 580.105.08 from NVIDIA's repository, open kernel module is adopted",
    ),
    (
        "runfile",
        host(**RUNFILE),
        Wish(),
        "adopt",
        "the driver 550.163.01 by NVIDIA's installer (runfile), closed kernel module is adopted",
    ),
    (
        "runfile is not replaced by packages",
        host(**RUNFILE),
        Wish(mode="upgrade"),
        "refuse",
        "the driver 550.163.01 came by runfile, and gpu_driver_source is debian: one is not put "
        "over the other",
    ),
    (
        "no driver and none wanted",
        bare(A100),
        Wish(),
        "refuse",
        "no driver is there for Ampere card 20b0 at 0000:3b:00.0, wanted a driver that can be "
        "adopted; set gpu_driver_mode to install, or install the company's driver",
    ),
    (
        "Debian's open module does not build for trixie's kernels: the closed one is chosen",
        bare(A100),
        INSTALL,
        "install",
        "the driver is installed by nvidia-kernel-dkms 550.163.01-2 (closed kernel module) for "
        "Ampere card 20b0 at 0000:3b:00.0",
    ),
    (
        "the open module was asked for",
        bare(A100),
        Wish(mode="install", module="open"),
        "refuse",
        f"the open kernel module 550 of Debian does not build for the kernel {NEW} (too few "
        "arguments to function 'pci_resize_resource')",
    ),
    (
        "Debian's open module for an older kernel",
        bare(T4) | {"running": "6.12.48+deb13-amd64", "kernels": [kernel("6.12.48+deb13-amd64")]},
        INSTALL,
        "install",
        "nvidia-open-kernel-dkms 550.163.01-2 (open kernel module)",
    ),
    (
        "Blackwell needs a newer branch than Debian has",
        bare(B200),
        INSTALL,
        "refuse",
        "branch 550 does not know the Blackwell card 2901 at 0000:3b:00.0: the first one for "
        "Blackwell is 570",
    ),
    (
        "Blackwell takes the open module of NVIDIA",
        bare(RTX_PRO, policy=OF_NVIDIA),
        NVIDIA,
        "install",
        "nvidia-kernel-open-dkms 580.105.08-1 (open kernel module)",
    ),
    (
        "Blackwell under the closed module",
        host(
            pci=cards(B200),
            proc_version=loaded("580.105.08"),
            libraries=["libnvidia-ml.so.580.105.08"],
        ),
        Wish(),
        "refuse",
        "the closed kernel module does not drive the Blackwell card 2901 at 0000:3b:00.0: "
        "Blackwell needs the open one",
    ),
    (
        "Grace Hopper under the closed module",
        host(pci=cards(GH200)),
        Wish(),
        "refuse",
        "the closed kernel module does not drive the Grace Hopper card 2342 at 0000:3b:00.0: "
        "Grace Hopper needs the open one",
    ),
    (
        "Volta takes the closed module of NVIDIA",
        bare(V100, policy=OF_NVIDIA),
        NVIDIA,
        "install",
        "nvidia-kernel-dkms 580.105.08-1 (closed kernel module)",
    ),
    (
        "Volta under the open module",
        bare(V100, policy=OF_NVIDIA),
        Wish(mode="install", source="nvidia", module="open"),
        "refuse",
        "the open kernel module does not drive the Volta card 1db4 at 0000:3b:00.0: Volta needs "
        "the closed one",
    ),
    (
        "Pascal after its last branch",
        bare(P40, policy=OF_NVIDIA.replace("580.105.08", "595.45.04")),
        NVIDIA,
        "refuse",
        "branch 595 no longer drives the Pascal card 1b38 at 0000:3b:00.0: the last one for "
        "Pascal is 580",
    ),
    (
        "Maxwell is still driven by Debian",
        bare(M60),
        INSTALL,
        "install",
        "nvidia-kernel-dkms 550.163.01-2 (closed kernel module) for Maxwell card 13f2",
    ),
    (
        "Kepler is driven by nothing in Debian any more",
        bare(K80),
        INSTALL,
        "refuse",
        "branch 550 no longer drives the Kepler card 102d at 0000:3b:00.0: the last one for "
        "Kepler is 470",
    ),
    (
        "older than Kepler",
        bare(GTX_480),
        INSTALL,
        "refuse",
        "the unknown card 06c0 at 0000:3b:00.0 is older than Kepler, and no driver of today "
        "drives it",
    ),
    (
        "old and new cards in one host",
        bare(V100, B200, policy=OF_NVIDIA),
        NVIDIA,
        "refuse",
        "the closed kernel module does not drive the Blackwell card 2901 at 0000:3c:00.0",
    ),
    (
        "a card that nobody knows",
        bare(FUTURE),
        INSTALL,
        "install",
        "the architecture of unknown card 3a00 at 0000:3b:00.0 is not known here, wanted cards "
        "from Kepler to Blackwell; name the branch by gpu_driver_branch",
    ),
    (
        "CUDA 13 on a driver of CUDA 12",
        host(),
        Wish(cuda=13),
        "refuse",
        "driver 550.163.01 is too old for programs of CUDA 13, which need 580.65.06",
    ),
    (
        "a branch that apt does not have",
        bare(A40),
        Wish(mode="install", branch=570),
        "refuse",
        "nvidia-kernel-dkms is of branch 550, and gpu_driver_branch asks for 570",
    ),
    (
        "a branch that is asked for",
        bare(A40),
        Wish(mode="install", branch=535),
        "install",
        "nvidia-tesla-535-kernel-dkms 535.274.02-1~deb13u1 (closed kernel module)",
    ),
    (
        "apt without non-free",
        bare(A40, policy=""),
        INSTALL,
        "refuse",
        "apt knows no driver of debian, wanted a driver that apt knows; set gpu_driver_repository "
        "to a mirror of Debian with the components contrib, non-free and non-free-firmware",
    ),
    (
        "Secure Boot, key not enrolled",
        bare(A40, secure_boot=True, mok="/var/lib/dkms/mok.pub is not enrolled"),
        INSTALL,
        "install",
        "Secure Boot is on, and the module that dkms would build could not be loaded, wanted a "
        "key of dkms that is enrolled before the driver is installed; mokutil --import",
    ),
    (
        "Secure Boot, no key",
        bare(A40, secure_boot=True, mok="none"),
        Wish(),
        "refuse",
        "Secure Boot is on, and there is no key with which dkms could sign: the kernel refuses a "
        "module that dkms builds",
    ),
    (
        "Secure Boot, key enrolled",
        bare(A40, secure_boot=True, mok="/var/lib/dkms/mok.pub is already enrolled"),
        INSTALL,
        "install",
        "Secure Boot is on, and the key of dkms is enrolled",
    ),
    (
        "Secure Boot cannot be read",
        bare(A40, secure_boot=None),
        INSTALL,
        "install",
        "whether Secure Boot is on cannot be read",
    ),
    (
        "a new kernel without a module",
        host(running=OLD, kernels=[kernel(OLD, "550.163.01"), kernel(NEW, headers=False)], dkms=""),
        Wish(),
        "adopt",
        f"the kernel {NEW} boots next (the newest kernel), and the driver's module is not there "
        "for it, and neither are its headers",
    ),
    (
        "an older kernel that grub was told to keep",
        host(
            running=OLD,
            kernels=[kernel(OLD, "550.163.01"), kernel(NEW)],
            dkms="",
            grub_default=f'GRUB_DEFAULT="Advanced options for Debian>Debian, with Linux {OLD}"',
        ),
        Wish(),
        "adopt",
        f"the driver's module is there for {OLD}, which boots next",
    ),
    (
        "a kernel for one boot",
        host(
            kernels=[kernel(OLD), kernel(NEW, "550.163.01")],
            dkms="",
            grub_default="GRUB_DEFAULT=saved",
            grubenv=f"saved_entry=gnulinux-{NEW}-advanced-x\nnext_entry=gnulinux-{OLD}-advanced-x",
        ),
        Wish(),
        "adopt",
        f"the kernel {OLD} boots next (grub-reboot), and the driver's module is not there for it",
    ),
    (
        "libraries were upgraded under a running module",
        host(libraries=["libnvidia-ml.so.550.200.01"]),
        Wish(),
        "adopt",
        "the kernel runs the driver 550.163.01, and the libraries are 550.200.01: new programs "
        "cannot use the GPUs (driver/library version mismatch)",
    ),
    (
        "an old persistence daemon",
        host(persistenced="nvidia-persistenced:  version 535.274.02"),
        Wish(),
        "adopt",
        "nvidia-persistenced runs as 535.274.02, and the libraries are 550.163.01, wanted one "
        "version of both; systemctl restart nvidia-persistenced",
    ),
    (
        "a module that waits for the next start",
        host(proc_version=loaded("550.100.01"), libraries=["libcuda.so.550.100.01"]),
        Wish(),
        "adopt",
        "the kernel runs the driver 550.100.01, and 550.163.01 waits on the disk for the next "
        "start",
    ),
    (
        "half-configured packages",
        host(dpkg=dpkg("nvidia-kernel-dkms", "550.163.01-2", "half-configured")),
        Wish(),
        "adopt",
        "packages of the driver are not installed to the end: nvidia-kernel-dkms (half-configured)",
    ),
    (
        "nouveau holds the card",
        bare(A40) | {"modules": ["nouveau"]},
        INSTALL,
        "install",
        "nouveau holds the GPUs, and the driver of NVIDIA cannot take them",
    ),
    (
        "a planned GPU is gone",
        host(),
        Wish(planned=("GPU-1", "GPU-2"), seen=("GPU-1",)),
        "adopt",
        "the plan uses 1 GPUs that the driver does not tell: GPU-2",
    ),
    (
        "a branch that has ended",
        host(),
        Wish(month="2026-11"),
        "adopt",
        "NVIDIA does not mend the branch 550 of the driver any more",
    ),
    (
        "upgrade to NVIDIA's next one",
        host(
            proc_version=loaded("570.86.15", is_open=True),
            libraries=["libcuda.so.570.86.15"],
            kernels=[kernel(NEW, "570.86.15", is_open=True)],
            persistenced="",
            dpkg=dpkg("nvidia-kernel-open-dkms", "570.86.15-1", of=CUDATOOLS),
            policy=OF_NVIDIA,
        ),
        Wish(mode="upgrade", source="nvidia"),
        "upgrade",
        "the driver 570.86.15 becomes nvidia-kernel-open-dkms 580.105.08-1 (open kernel module)",
    ),
    (
        "nothing newer to upgrade to",
        host(),
        Wish(mode="upgrade"),
        "adopt",
        "the driver 550.163.01 from Debian's packages, closed kernel module is adopted",
    ),
    (
        "AMD",
        bare() | {"pci": cards("0x74a1", vendor="0x1002", driver="amdgpu")},
        Wish(),
        "adopt",
        "GPUs of other makers are taken as they are, with their drivers: AMD 74a1 at "
        "0000:3b:00.0 (amdgpu)",
    ),
    (
        "Intel",
        bare() | {"pci": [["0000:4d:00.0", "0x8086", "0x0bda", "0x038000", "xe"]]},
        Wish(),
        "adopt",
        "Intel 0bda at 0000:4d:00.0 (xe)",
    ),
    (
        "Jetson",
        bare() | {"pci": [], "jetson": "NVIDIA Jetson AGX Orin Developer Kit"},
        Wish(mode="install"),
        "adopt",
        "NVIDIA Jetson AGX Orin Developer Kit: its driver is part of its system (L4T) and is "
        "taken as it is",
    ),
    (
        "no GPU",
        bare(),
        Wish(),
        "nothing",
        "no GPU is seen on the bus of this host, wanted a GPU; take the host out of the group gpu",
    ),
    (
        "a driver that answers though no card is on the bus",
        bare() | {"pci": []},
        Wish(told="580.105.08", seen=("GPU-1",)),
        "adopt",
        "the driver 580.105.08 from a source that is not known is adopted",
    ),
]


@pytest.mark.parametrize(
    ("raw", "wish", "action", "said"),
    [row[1:] for row in SITUATIONS],
    ids=[r[0] for r in SITUATIONS],
)
def test_a_situation_has_its_verdict_and_its_sentence(
    raw: dict[str, Any], wish: Wish, action: str, said: str
) -> None:
    found = judge(parse(raw), wish)
    sentences = [found.sentence, *(row.sentence.removeprefix(": ") for row in found.findings)]
    assert found.action == action, sentences
    assert any(said in one for one in sentences), sentences


def test_there_are_enough_situations_and_no_two_of_one_name() -> None:
    names = [row[0] for row in SITUATIONS]
    assert len(set(names)) == len(names) >= 40


def test_what_stops_a_site_says_how_to_go_on() -> None:
    for name, raw, wish, _action, _said in SITUATIONS:
        for row in judge(parse(raw), wish).findings:
            assert row.severity == "pass" or (row.wanted and row.remedy), name


def test_a_refusal_always_stops_the_site_and_an_adoption_never_does() -> None:
    for name, raw, wish, action, _said in SITUATIONS:
        severities = {row.severity for row in judge(parse(raw), wish).findings}
        if action == "refuse":
            assert "fail" in severities, name
        if action == "adopt":
            assert "fail" not in severities, name


def test_a_preflight_takes_every_finding_down() -> None:
    for _name, raw, wish, _action, _said in SITUATIONS:
        for row in judge(parse(raw), wish).as_dict()["findings"]:
            assert parse_finding(row, "gpu1").host == "gpu1"


def test_what_is_installed_comes_with_headers_for_the_kernels_that_run_and_boot() -> None:
    raw = bare(A100) | {
        "running": OLD,
        "kernels": [kernel(OLD, headers=False), kernel(NEW, headers=False)],
    }
    assert judge(parse(raw), INSTALL).packages == (
        f"linux-headers-{OLD}",
        f"linux-headers-{NEW}",
        "nvidia-kernel-dkms",
        "nvidia-smi",
        "libcuda1",
        "nvidia-persistenced",
    )


def test_kernels_are_held_only_where_one_would_boot_without_a_module() -> None:
    there = parse(host())
    assert judge(there, Wish()).hold_kernel == ()
    without = replace(
        there, kernels=(there.kernels[0], replace(there.kernels[1], module="")), builds=()
    )
    assert judge(without, Wish()).hold_kernel == ("linux-image-amd64", "linux-headers-amd64")


@pytest.mark.parametrize(
    ("release", "flavour"),
    [
        ("6.12.107+deb13-amd64", "amd64"),
        ("6.12.117+deb13-cloud-amd64", "cloud-amd64"),
        ("6.1.0-37-amd64", "amd64"),
        ("6.1.0-37-rt-amd64", "rt-amd64"),
        ("6.8.0-60-generic", "generic"),
        ("6.12.41", ""),
    ],
)
def test_a_kernel_belongs_to_a_flavour(release: str, flavour: str) -> None:
    assert facts.flavour_of(release) == flavour


def test_builds_are_read_of_both_forms_of_dkms() -> None:
    text = (
        "nvidia, 470.256.02, 5.10.0-30-amd64, x86_64: installed\n"
        f"nvidia-current/550.163.01, {NEW}, x86_64: installed\n"
        "nvidia-current/550.163.01: added\n"
        f"nvidia-current-open/550.163.01, {NEW}, x86_64: broken\n"
        "zfs/2.3.2, 6.12.1, x86_64: installed\n"
    )
    found = facts.builds(text)
    assert [(one.version, one.kernel, one.done) for one in found] == [
        ("470.256.02", "5.10.0-30-amd64", True),
        ("550.163.01", NEW, True),
        ("550.163.01", "", False),
        ("550.163.01", NEW, False),
    ]


MENU = f"""
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple-x' {{
        linux   /boot/vmlinuz-{NEW} root=UUID=x
}}
submenu 'Advanced options' $menuentry_id_option 'gnulinux-advanced-x' {{
        menuentry 'Debian, with Linux new' $menuentry_id_option 'first' {{
                linux   /boot/vmlinuz-{NEW} root=UUID=x
        }}
        menuentry 'Debian, with Linux old' $menuentry_id_option 'second' {{
                linux   /boot/vmlinuz-{OLD} root=UUID=x
        }}
}}
"""


@pytest.mark.parametrize(
    ("setting", "boots"),
    [
        ("", NEW),
        ("GRUB_DEFAULT=0", NEW),
        ('GRUB_DEFAULT="1>1"', OLD),
        ("GRUB_DEFAULT=gnulinux-advanced-x>second", OLD),
        ("GRUB_DEFAULT='Debian, with Linux old'", OLD),
        ("GRUB_DEFAULT=gone", NEW),
        ("GRUB_DEFAULT=saved", NEW),
    ],
)
def test_grub_says_what_boots_next(setting: str, boots: str) -> None:
    raw = {"grub_default": setting, "grub_cfg": MENU}
    assert facts.next_boot(raw, [OLD, NEW])[0] == boots


def test_a_container_has_no_next_boot_and_no_headers_of_the_kernel_below() -> None:
    raw = bare(A100) | {"container": True, "kernels": [], "running": "5.10.1"}
    found = judge(parse(raw), INSTALL)
    assert found.packages[0] == "nvidia-open-kernel-dkms"
    assert Facts(container=True, next=NEW, loaded="550.1").version == "550.1"
    assert guarded(Facts(container=True, next=NEW, loaded="550.1")) is None
