"""The rules about GPUs use names that exporters really have."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[4]
SAID = {
    name: (ROOT / "tests" / "fixtures" / "gpu_exporters" / f"{name}.txt").read_text()
    for name in ("dcgm", "nvitop")
}


def test_every_name_of_an_exporter_in_the_rules_was_recorded() -> None:
    text = (ROOT / "roles" / "monitoring" / "files" / "recording.yml").read_text()
    used = set(re.findall(r"\b(?:DCGM_FI_\w+|gpu_[a-z_]+_(?:Percentage|MiB|C|W))\b", text))
    there = {line.partition("{")[0] for said in SAID.values() for line in said.splitlines()}
    assert len(used) >= 10
    assert used - there == set()


def test_what_the_role_looks_for_tells_a_dcgm_exporter_from_another() -> None:
    page = yaml.safe_load((ROOT / "roles" / "gpu_driver" / "vars" / "main.yml").read_text())
    (check,) = page["__gpu_driver_dcgm_checks"]
    assert check["contains"] in SAID["dcgm"]
    assert check["contains"] not in SAID["nvitop"]
