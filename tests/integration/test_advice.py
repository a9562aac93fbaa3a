# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Four weeks of the example company in a real Prometheus, and what is advised of them."""

from __future__ import annotations

import json
import math
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.mlops.onprem.plugins.action import advice, assessment

from tests import example_site
from tests.patience import PATIENCE
from tests.prometheus_programs import program
from tests.unit.plugins.action.test_assessment import arguments as assessment_arguments
from tests.unit.plugins.action.test_assessment import silent, site

VARIABLES, GROUPS, _LABELS = example_site.inventory()
SCHEMA = json.loads((example_site.ROOT / "docs" / "schema" / "advice.schema.json").read_text())
STEP, DAYS = 300, 28
END = int(example_site.NOW - example_site.NOW % STEP)
GIB = 2**30


def openmetrics(placement: list[dict[str, Any]]) -> str:
    """What exporters would have said: handbook needs much less than it has, second-look more."""
    times = range(END - DAYS * 86_400, END + STEP, STEP)
    lines: list[str] = []

    def series(name: str, labels: str, kind: str, value: Any) -> None:
        lines.append(f"# TYPE {name} {kind}")
        suffix = "_total" if kind == "counter" else ""
        lines.extend(f"{name}{suffix}{{{labels}}} {value(at):.10g} {at}" for at in times)

    def named(workload: str, replica: int) -> str:
        return f'host="gpu1",unit="mlops-workload-{workload}-{replica}.service"'

    def wave(at: int) -> float:
        return 1 + 0.05 * math.sin(2 * math.pi * at / 86_400) + 0.01 * math.sin(at * 7.0)

    # Of one name all series together, as the format wants it.
    for name, kind, rows in (
        (
            "mlops_unit_memory_bytes",
            "gauge",
            [
                (named("handbook", 0), lambda at: 12 * GIB * wave(at)),
                (named("handbook", 1), lambda at: 11 * GIB * wave(at)),
                (named("second-look", 0), lambda at: 17 * GIB * wave(at)),
            ],
        ),
        (
            "mlops_unit_cpu_seconds",
            "counter",
            [
                (named("handbook", 0), lambda at: 1.5 * (at - times[0])),
                (named("second-look", 0), lambda at: 3.8 * (at - times[0])),
            ],
        ),
        (
            "node_filesystem_avail_bytes",
            "gauge",
            [
                ('host="gpu1",mountpoint="/srv"', lambda at: (9000 - (at - times[0]) / 864) * GIB),
                ('host="gpu2",mountpoint="/srv"', lambda _at: 9000 * GIB),
            ],
        ),
        (
            "mlops:gpu_utilisation:ratio",
            "gauge",
            [
                (f'host="{row["host"]}",uuid="{uuid}"', lambda at: 0.12 * wave(at))
                for row in placement
                if row["workload"] == "handbook"
                for uuid in row["gpu_ids"]
            ],
        ),
        (
            "mlops:gpu_memory_used:bytes",
            "gauge",
            [
                (f'host="{row["host"]}",uuid="{uuid}"', lambda at: 15 * GIB * wave(at))
                for row in placement
                if row["workload"] == "handbook"
                for uuid in row["gpu_ids"]
            ],
        ),
        (
            "mlops_model_info",
            "gauge",
            [
                ('host="cam1",model_name="scratches"', lambda _at: 1.0),
                ('host="cam1",model_name="forgotten"', lambda _at: 1.0),
            ],
        ),
        (
            "mlops_model_requests",
            "counter",
            [
                ('host="cam1",model_name="scratches"', lambda at: (at - times[0]) / 60),
                ('host="cam1",model_name="forgotten"', lambda _at: 7.0),
            ],
        ),
    ):
        before = len(lines)
        for labels, value in rows:
            series(name, labels, kind, value)
        lines[before:] = [lines[before], *(row for row in lines[before:] if row[0] != "#")]
    return "\n".join([*lines, "# EOF", ""])


@pytest.fixture(scope="module", name="directory")
def _directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a site that was assessed."""
    directory = tmp_path_factory.mktemp("state")
    args = assessment_arguments(directory)
    report, _placement = assessment.assess(
        args, site(), example_site.NOW, silent, example_site.steady_clock()
    )
    assessment.write_report(directory, report)
    assessment.keep_placement(directory, report, True)
    return directory


@pytest.fixture(scope="module", name="prometheus")
def _prometheus(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Debian's Prometheus with four weeks in it."""
    folder = tmp_path_factory.mktemp("prometheus")
    placement = json.loads((directory / "placement.json").read_text())["placement"]
    (folder / "weeks.txt").write_text(openmetrics(placement))
    backfill = [program("promtool"), "tsdb", "create-blocks-from", "openmetrics"]
    subprocess.run(
        [*backfill, "--max-block-duration=720h", folder / "weeks.txt", folder / "data"],
        check=True,
        capture_output=True,
    )
    (folder / "prometheus.yml").write_text("scrape_configs: []\n")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{sock.getsockname()[1]}"
    command = [
        program("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--storage.tsdb.retention.time=3650d",
        f"--web.listen-address={address}",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for(f"http://{address}/-/ready", process)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            assert process.poll() is None, "Prometheus ended"
            assert time.monotonic() < deadline, "Prometheus is not ready"
            time.sleep(0.1)


def asked(directory: Path, url: str, **changes: Any) -> tuple[dict[str, Any], str]:
    arguments = {
        "url": url,
        "user": "",
        "password": "",
        "ca_file": "/etc/ssl/certs/ca-certificates.crt",
        "days": DAYS,
        "least_days": 14,
        "ahead_days": 14,
        "chance": 0.01,
        "exceeded": 0.01,
        "workloads": VARIABLES["mlops_workloads"],
        "offers": [],
        "planning": {"seconds": 5, "horizon_years": 0},
        "directory": str(directory),
        **changes,
    }
    return advice.advise_site(arguments, site(), example_site.NOW)


@pytest.fixture(scope="module", name="answered")
def _answered(directory: Path, prometheus: str) -> tuple[dict[str, Any], str]:
    return asked(directory, prometheus)


def row(answered: tuple[dict[str, Any], str], variable: str) -> dict[str, Any]:
    [found] = [one for one in answered[0]["advices"] if one["variable"] == variable]
    return dict(found)


def test_a_request_that_is_too_large_is_advised_down(answered: Any) -> None:
    memory = row(answered, "mlops_workloads[handbook].requests.memory_mib")
    assert memory["verdict"] == "advise"
    assert memory["now"] == "49,152 MiB"
    # 12 GiB and a twentieth are used at most, and the margin is a tenth.
    then = float(memory["then"].split()[0].replace(",", ""))
    assert 12 * 1024 * 1.05 * 1.1 < then < 12 * 1024 * 1.06 * 1.2
    assert memory["saving"] == 2 * (49_152 - then)
    assert (memory["window_days"], memory["quantile"]) == (28, 1.0)
    cpu = row(answered, "mlops_workloads[handbook].requests.cpu_cores")
    assert (cpu["verdict"], cpu["then"], cpu["saving"]) == ("advise", "1.7 cores", 2 * 6.3)


def test_a_request_that_is_too_small_is_advised_up(answered: Any) -> None:
    memory = row(answered, "mlops_workloads[second-look].requests.memory_mib")
    assert memory["verdict"] == "advise"
    assert memory["saving"] < 0
    cpu = row(answered, "mlops_workloads[second-look].requests.cpu_cores")
    assert (cpu["verdict"], cpu["now"], cpu["then"]) == ("keep", "4 cores", "4 cores")


def test_a_gpu_that_idles_could_be_shared(answered: Any) -> None:
    gpu = row(answered, "mlops_workloads[handbook].gpu")
    assert gpu["verdict"] == "advise"
    assert gpu["then"].startswith("memory: 18,")
    assert "not how much of the card" in gpu["why"]


def test_models_nobody_asks_and_disks_that_fill_up_are_named(answered: Any) -> None:
    assert row(answered, "mlops_models[forgotten]")["why"] == "nobody has asked it in 28 days"
    assert not [one for one in answered[0]["advices"] if "scratches" in one["variable"]]
    [disk] = [one for one in answered[0]["advices"] if one["measure"] == "disk"]
    assert disk["subject"] == "gpu1 /srv"
    assert disk["why"].startswith("it loses 100.00 GiB a day; it is full in ")


def test_all_of_it_is_planned_again_and_said(answered: Any) -> None:
    page, text = answered
    jsonschema.validate(page, SCHEMA)
    assert page["verified"]["holds"] is True
    assert "checked by separate code" in page["verified"]["said"]
    assert "Advised:" in text
    assert "(saves 12.6 cores in all)" in text


def test_advice_that_would_not_fit_together_is_not_taken_for_good(
    directory: Path, prometheus: str
) -> None:
    # Ten times as many replicas fit as long as each requests next to nothing.
    work = [
        {**one, "replicas": 60, "requests": {"cpu_cores": 0.1, "memory": "64MiB"}, "gpu": None}
        if one["name"] == "second-look"
        else one
        for one in VARIABLES["mlops_workloads"]
    ]
    for one in work:
        if one["name"] == "second-look":
            for key in ("anti_affinity", "limits"):
                one.pop(key, None)
    page, text = asked(directory, prometheus, workloads=work)
    assert page["verified"]["holds"] is False
    assert "INFEASIBLE" in page["verified"]["said"]
    assert "Planned again: " in text


def test_too_short_a_history_is_said(directory: Path, prometheus: str) -> None:
    page, _text = asked(directory, prometheus, days=7)
    said = {one["verdict"] for one in page["advices"] if one["subject"].startswith("workload")}
    assert said == {"too little data"}
    assert page["verified"] is None


def test_a_prometheus_that_does_not_answer_is_one_sentence(directory: Path) -> None:
    with pytest.raises(AnsibleActionFail, match="did not say what the site used"):
        asked(directory, "http://127.0.0.1:9")


def test_without_an_assessment_there_is_no_baseline(tmp_path: Path, prometheus: str) -> None:
    with pytest.raises(AnsibleActionFail, match=r"run playbooks/assess\.yml first"):
        asked(tmp_path, prometheus)
