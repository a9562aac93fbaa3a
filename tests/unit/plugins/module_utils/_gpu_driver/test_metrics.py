"""What the watcher writes for Prometheus, of recordings and of a host in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._gpu_driver import facts, metrics, watch
from ansible_collections.mlops.onprem.plugins.module_utils._gpu_driver.read import read

RECORDED = Path(__file__).resolve().parents[4] / "fixtures" / "nvidia_smi"
XIDS = """NVRM: loading NVIDIA UNIX x86_64 Kernel Module  550.163.01
NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.
NVRM: Xid (PCI:0000:3b:00): 79, pid=1, name=python, GPU has fallen off the bus.
NVRM: Xid (PCI:0000:AF:00): 31, pid=1, name=python, Ch 00000010
"""


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.xml")), ids=lambda path: path.stem)
def test_every_recording_tells_its_card(path: Path) -> None:
    text = metrics.page(metrics.of_cards(path.read_text()))
    assert "mlops_gpu_driver_answers 1" in text
    assert 'mlops_gpu_seen{gpu="0",uuid="GPU-' in text
    assert "mlops_gpu_temperature_celsius" in text
    assert 'reason="hw_slowdown"' in text
    for row in text.splitlines():
        assert row.startswith("#") or float(row.rpartition(" ")[2]) >= 0


def test_there_are_recordings() -> None:
    assert len(list(RECORDED.glob("*.xml"))) >= 6


def test_a_recording_tells_rows_and_reasons() -> None:
    found = metrics.of_cards((RECORDED / "rtx-4000-sff-ada-v13.xml").read_text())
    values = {(one.name, dict(one.labels).get("cause")): one.value for one in found}
    assert values["mlops_gpu_remapped_rows", "uncorrectable"] == 0
    assert values["mlops_gpu_remapping_failed", None] == 0
    assert sum(one.name == "mlops_gpu_throttled" for one in found) == len(metrics.THROTTLES)


def test_a_driver_that_says_nothing_does_not_answer() -> None:
    assert metrics.page(metrics.of_cards("")).endswith("mlops_gpu_driver_answers 0\n")


def test_errors_are_counted_by_card_and_kind() -> None:
    rows = [one.text for one in metrics.of_log(XIDS)]
    assert rows == [
        'mlops_gpu_xid{pci="0000:3b:00",xid="79"} 2',
        'mlops_gpu_xid{pci="0000:af:00",xid="31"} 1',
    ]


@pytest.mark.parametrize(
    ("versions", "skew"),
    [
        (("550.1", "550.1", "550.1"), 0),
        (("550.1", "550.2", ""), 1),
        (("550.1", "550.1", "535.1"), 1),
        (("", "550.1", ""), 0),
        (("", "", ""), 0),
    ],
)
def test_different_versions_are_a_skew(versions: tuple[str, str, str], skew: int) -> None:
    assert metrics.of_driver(*versions)[1].value == skew


def tree(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_host_is_read_from_its_files(tmp_path: Path) -> None:
    release = "6.12.117+deb13-amd64"
    bus = "sys/bus/pci/devices/0000:3b:00.0"
    tree(
        tmp_path,
        {
            f"{bus}/class": "0x030200\n",
            f"{bus}/vendor": "0x10de\n",
            f"{bus}/device": "0x20b0\n",
            "proc/driver/nvidia/version": (
                "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.163.01  x\n"
            ),
            "proc/modules": "nvidia 1 0 - Live 0x0\n",
            "proc/cmdline": "quiet\n",
            "proc/77/comm": "nvidia-persiste\n",
            f"lib/modules/{release}/build/Makefile": "",
            f"lib/modules/{release}/updates/dkms/nvidia-current.ko.xz": "",
            f"lib/modules/{release}/updates/dkms/nvidia-current-drm.ko.xz": "",
            f"boot/vmlinuz-{release}": "",
            "etc/modprobe.d/x.conf": "blacklist nouveau\n",
            "usr/lib/x86_64-linux-gnu/libcuda.so.550.163.01": "",
            "sys/firmware/efi/efivars/SecureBoot-8be4": "\x06\x00\x00\x00\x01",
        },
    )
    (tmp_path / "usr/lib/x86_64-linux-gnu/libcuda.so.1").symlink_to("libcuda.so.550.163.01")
    asked: list[list[str]] = []

    def answer(argv: object) -> str:
        words = list(argv)  # type: ignore[call-overload]
        asked.append(words)
        if words[0] == "modinfo":
            assert words[1].endswith("nvidia-current.ko.xz")
            return "version: 550.163.01\nlicense: NVIDIA\n"
        return "nvidia-persistenced: version 550.163.01" if "persistenced" in words[0] else ""

    found = facts.parse(read(str(tmp_path), answer))
    assert found.cards == (facts.Card("0000:3b:00.0", 0x20B0, "Ampere", ""),)
    assert found.version == found.library == found.persistenced == "550.163.01"
    assert (found.open, found.secure_boot, found.nouveau_off) == (False, True, True)
    assert (found.next, found.kernels[0].headers) == (release, True)


def test_the_file_is_written_in_one_step_and_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "run", lambda argv: XIDS if argv[0] == "journalctl" else "")
    monkeypatch.setattr(watch, "read_versions", lambda: {"libraries": ["libcuda.so.550.163.01"]})
    (tmp_path / "planned.json").write_text(json.dumps({"planned": ["GPU-a", "GPU-a"]}))
    target = tmp_path / "gpu.prom"
    assert watch.main([str(tmp_path / "planned.json"), str(target)]) == 0
    text = target.read_text()
    assert text.count('mlops_gpu_planned{uuid="GPU-a"} 1') == 1
    assert "mlops_gpu_driver_answers 0" in text
    assert 'xid="79"} 2' in text
    assert target.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] != []
    assert not (tmp_path / "gpu.prom.new").exists()
