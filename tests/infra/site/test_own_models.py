# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Models of one's own on a device of the running site, beside the one that it has."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.infra.site.conftest import ROOT, Site
from tests.patience import PATIENCE

PLAYBOOK = str(Path(sys.executable).with_name("ansible-playbook"))
FIXTURES = ROOT / "tests/fixtures"
KINDS = ("external", "string", "two_inputs", "big")
TOOL = "/opt/mlops/model_serving_app/mlops-release"


def pipeline_python() -> str:
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "pipeline/environment.py"),
            f"--requirements={ROOT / 'requirements/pipeline.txt'}",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    return str(json.loads(done.stdout)["python"])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models as users bring them, each with a request and the trainer's answers to it."""
    place = tmp_path_factory.mktemp("models") / "own"
    python = pipeline_python()
    subprocess.run([python, str(FIXTURES / "own_models.py"), str(place)], check=True)
    for kind in KINDS:
        subprocess.run(
            [python, str(FIXTURES / "trainer_answers.py"), str(place / kind)], check=True
        )
    return place


def ask(site: Site, device: str, path: str, body: Any = None) -> Any:
    """Ask a device through its TLS port."""
    request = urllib.request.Request(
        f"https://{site.address(device)}{path}",
        data=None if body is None else json.dumps(body).encode(),
    )
    context = ssl.create_default_context(cafile=str(site.inventory / ".state/ca-bundle.crt"))
    with urllib.request.urlopen(request, timeout=PATIENCE, context=context) as answer:
        return json.load(answer)


def status(site: Site, device: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(site.connect(device).check_output(f"{TOOL} status"))
    return found


@pytest.mark.destructive
def test_models_of_ones_own_answer_on_a_device_as_their_trainer_does(
    site: Site, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    device = site.groups["edge"][0]
    before = status(site, device)
    name = str(before["model_name"])
    entries = [
        {
            "name": f"own-{kind.replace('_', '-')}",
            "artifact": str(models / kind / "model.onnx"),
            "cases": str(models / kind / "answered.json"),
            "targets": [device],
        }
        for kind in KINDS
    ]
    digits = {
        "name": "digits",
        "project": "digits",
        "thresholds": {"accuracy": 0.9},
        "targets": [device],
    }
    own = [str(entry["name"]) for entry in entries] + ["digits"]
    given = {
        "mlops_models": [{"name": name, "project": "breast_cancer"}, *entries, digits],
        "pipeline_model_names": ",".join(own),
    }
    started = time.monotonic()
    done = subprocess.run(
        [
            *(PLAYBOOK, "-i", str(site.inventory), "playbooks/pipeline_check.yml"),
            *("-e", json.dumps(given)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - started
    try:
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
        now = status(site, device)
        assert sorted(now["models"]) == sorted([name, *own])
        assert now["models"][name]["served"] == before["served"]
        for kind, entry in zip(KINDS, entries, strict=True):
            case = json.loads((models / kind / "answered.json").read_text())["cases"][0]
            answer = ask(site, device, f"/v2/models/{entry['name']}/infer", case["request"])
            for output in answer["outputs"]:
                assert output["data"] == pytest.approx(case["expected"][output["name"]], rel=1e-4)
        # No other device has them.
        assert list(status(site, site.groups["edge"][1])["models"]) == [name]
    finally:
        for each in own:
            site.connect(device).run(f"{TOOL} remove {each}")
    after = status(site, device)
    assert (list(after["models"]), after["served"]) == ([name], before["served"])
    assert ask(site, device, f"/v2/models/{name}")["name"] == name
    with capsys.disabled():
        print(f"\nfive models of one's own, from files to answers of a device: {seconds:.0f} s")
