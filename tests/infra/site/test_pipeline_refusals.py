# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""The pipeline check of the running site fails, with a sentence, when something is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.config
import pytest

from tests.infra.site.conftest import ROOT, Site
from tests.releases import fresh_key

PLAYBOOK = str(Path(sys.executable).with_name("ansible-playbook"))
# A model of its own, so that the alias of the site's model stays with a release that is good.
MODEL = "refusals"


def check(site: Site, *limits: str, **variables: Any) -> tuple[int, dict[str, Any]]:
    """Run the pipeline check; return its exit code and its report."""
    given = json.dumps({"pipeline_model_name": MODEL, "pipeline_dataset": "wine", **variables})
    done = subprocess.run(
        [PLAYBOOK, "-i", str(site.inventory), "playbooks/pipeline_check.yml", *limits, "-e", given],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads((site.inventory / ".state/pipeline/latest.json").read_text())
    for row in report["rows"]:
        if row["verdict"] == "fail":
            assert row["finding"] in " ".join(done.stdout.split()), "the table does not show it"
    return done.returncode, report


def failures(report: dict[str, Any]) -> dict[str, str]:
    return {row["step"]: row["finding"] for row in report["rows"] if row["verdict"] == "fail"}


def served(site: Site) -> dict[str, str]:
    """Return what each device serves."""
    return {
        name: str(
            json.loads(
                site.connect(name).check_output("/opt/mlops/model_serving_app/mlops-release status")
            )["served"]
        )
        for name in site.groups["edge"]
    }


@pytest.fixture
def unmoved(site: Site) -> Iterator[None]:
    """Every device serves afterwards what it served before."""
    before = served(site)
    yield
    assert served(site) == before


@pytest.mark.destructive
@pytest.mark.usefixtures("unmoved")
def test_a_release_signed_with_another_key_fails_on_every_device(
    site: Site, tmp_path: Path
) -> None:
    key = fresh_key(tmp_path / "stranger.key").read_text()
    pkcs8 = subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-nocrypt"],
        input=key,
        capture_output=True,
        text=True,
        check=True,
    )
    code, report = check(site, pipeline_signing_key=pkcs8.stdout)
    assert code != 0
    found = failures(report)
    assert sorted(found) == [f"release {name}" for name in site.groups["edge"]]
    for sentence in found.values():
        assert "is not known here; known are" in sentence


@pytest.mark.destructive
@pytest.mark.usefixtures("unmoved")
def test_a_tampered_artifact_fails_on_every_device(site: Site, secrets: dict[str, str]) -> None:
    code, report = check(site, "--limit", site.groups["control"][0])
    assert code == 0
    digest = next(step["digest"] for step in report["steps"] if step["step"] == "publish")
    store = site.groups.get("object_store") or []
    if not store:
        pytest.skip("the site does not run its own object store")
    s3 = boto3.client(
        "s3",
        endpoint_url=f"https://{site.address(store[0])}",
        region_name="us-east-1",
        verify=str(site.inventory / ".state/ca-bundle.crt"),
        aws_access_key_id=secrets["artifact_registry_s3_access_key"],
        aws_secret_access_key=secrets["artifact_registry_s3_secret_key"],
        config=botocore.config.Config(s3={"addressing_style": "path"}),
    )

    def blob(name: str) -> dict[str, str]:
        hexes = name.partition(":")[2]
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket="mlops-artifacts")
        for page in pages:
            for entry in page.get("Contents", []):
                if entry["Key"].endswith(f"/{hexes}/data"):
                    return {"Bucket": "mlops-artifacts", "Key": entry["Key"]}
        raise AssertionError(f"{name} is not in the store")

    manifest = json.loads(s3.get_object(**blob(digest))["Body"].read())
    model = next(
        layer["digest"]
        for layer in manifest["layers"]
        if layer["annotations"]["org.opencontainers.image.title"] == "model.onnx"
    )
    good = s3.get_object(**blob(model))["Body"].read()
    s3.put_object(**blob(model), Body=good[:-1] + bytes([good[-1] ^ 1]))
    try:
        code, report = check(site, pipeline_reuse_release=True)
    finally:
        s3.put_object(**blob(model), Body=good)
    assert code != 0
    found = failures(report)
    assert sorted(found) == [f"release {name}" for name in site.groups["edge"]]
    for sentence in found.values():
        assert "The file model.onnx was tampered with: found the digest sha256:" in sentence


@pytest.mark.destructive
@pytest.mark.usefixtures("unmoved")
def test_a_model_without_golden_answers_is_not_published(site: Site) -> None:
    code, report = check(site, pipeline_golden_cases=0)
    assert code != 0
    assert "golden_cases: found 0, wanted 1 or more" in failures(report)["train"]


@pytest.mark.destructive
@pytest.mark.usefixtures("unmoved")
def test_a_model_that_is_not_good_enough_is_not_published(site: Site) -> None:
    code, report = check(site, pipeline_thresholds={"accuracy": 1.01})
    assert code != 0
    assert "wanted 1.01 or more" in failures(report)["evaluate"]


@pytest.mark.destructive
def test_a_device_that_does_not_answer_is_named_and_the_others_pass(site: Site) -> None:
    name = site.groups["edge"][-1]
    remote = site.connect(name)
    remote.check_output("systemctl stop mlops-nginx")
    try:
        code, report = check(site, pipeline_reuse_release=True, pipeline_model_name="breast-cancer")
    finally:
        remote.check_output("systemctl start mlops-nginx")
    assert code != 0
    found = failures(report)
    assert list(found) == [f"predict {name}"]
    assert f"{name} does not answer at https://{site.address(name)}" in found[f"predict {name}"]
