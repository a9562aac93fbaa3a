"""The object store from outside: Ceph on mol3, the company's endpoint behind mol1."""

from __future__ import annotations

import hashlib
import socket
import ssl
import time
import urllib.error
import urllib.request
from typing import Any

import boto3
import botocore.config
import botocore.exceptions
import pytest
import testinfra

from tests.infra.outside import SITE, address_of
from tests.patience import PATIENCE

CA_FILE = SITE / ".state/ca-bundle.crt"
ADDRESS = address_of("mol3")
ENDPOINT = f"https://{ADDRESS}"
MODELS = ("MODELREGISTRYSCENARIO", "models/of+the-scenario")
PIPELINE = ("PIPELINESOFTHESCENARIO", "pipeline/of+the-scenario")
UNITS = ["mon", "mgr", "osd-0", "osd-1", "osd-2", "rgw"]
MIB = 1024 * 1024


@pytest.fixture
def store(request: pytest.FixtureRequest) -> Any:
    return testinfra.get_host("ssh://mol3", ssh_config=request.config.option.ssh_config)


@pytest.fixture
def user_of_company(request: pytest.FixtureRequest) -> Any:
    return testinfra.get_host("ssh://mol1", ssh_config=request.config.option.ssh_config)


def client(account: tuple[str, str]) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=ENDPOINT,
        region_name="us-east-1",
        verify=str(CA_FILE),
        aws_access_key_id=account[0],
        aws_secret_access_key=account[1],
        config=botocore.config.Config(s3={"addressing_style": "path"}, retries={"max_attempts": 2}),
    )


def test_an_object_comes_back_as_it_was_whole_and_in_part() -> None:
    s3, body = client(MODELS), bytes(range(256)) * 4096
    s3.put_object(Bucket="mlops-models", Key="a b/ü+//x.bin", Body=body)
    assert s3.get_object(Bucket="mlops-models", Key="a b/ü+//x.bin")["Body"].read() == body
    part = s3.get_object(Bucket="mlops-models", Key="a b/ü+//x.bin", Range="bytes=100-199")
    assert part["Body"].read() == body[100:200]
    s3.delete_object(Bucket="mlops-models", Key="a b/ü+//x.bin")


def test_names_of_metadata_arrive_as_they_were_signed() -> None:
    s3, where = client(MODELS), {"Bucket": "mlops-models", "Key": "with metadata"}
    told = {"under_score": "1", "git_commit": "abc", "with-dash": "2", "dot.ted": "3"}
    s3.put_object(**where, Body=b"x", Metadata=told)
    assert s3.head_object(**where)["Metadata"].keys() == told.keys()
    s3.delete_object(**where)


def test_a_large_object_is_uploaded_in_parts() -> None:
    s3, pieces = client(MODELS), [b"a" * 8 * MIB, b"b" * MIB]
    upload = s3.create_multipart_upload(Bucket="mlops-models", Key="large")["UploadId"]
    where = {"Bucket": "mlops-models", "Key": "large"}
    parts = [
        {
            "PartNumber": number,
            "ETag": s3.upload_part(**where, UploadId=upload, PartNumber=number, Body=piece)["ETag"],
        }
        for number, piece in enumerate(pieces, 1)
    ]
    s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})
    read = s3.get_object(**where)["Body"].read()
    assert hashlib.sha256(read).digest() == hashlib.sha256(b"".join(pieces)).digest()
    s3.delete_object(**where)


def test_one_account_may_not_read_what_another_stores() -> None:
    with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
        client(PIPELINE).list_objects_v2(Bucket="mlops-models")


def test_a_wrong_secret_is_refused() -> None:
    with pytest.raises(botocore.exceptions.ClientError, match="SignatureDoesNotMatch"):
        client((MODELS[0], "wrong")).list_buckets()


def test_a_bucket_policy_can_make_a_bucket_read_only_for_another_account() -> None:
    owner, reader = client(MODELS), client(PIPELINE)
    policy = (
        '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow",'
        ' "Principal": {"AWS": ["arn:aws:iam:::user/pipeline"]},'
        ' "Action": ["s3:ListBucket", "s3:GetObject"],'
        ' "Resource": ["arn:aws:s3:::mlops-models", "arn:aws:s3:::mlops-models/*"]}]}'
    )
    owner.put_bucket_policy(Bucket="mlops-models", Policy=policy)
    try:
        reader.list_objects_v2(Bucket="mlops-models")
        with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
            reader.put_object(Bucket="mlops-models", Key="x", Body=b"x")
    finally:
        owner.delete_bucket_policy(Bucket="mlops-models")


@pytest.mark.parametrize("unit", UNITS)
def test_the_daemons_run_sandboxed_as_their_own_user(store: Any, unit: str) -> None:
    name = f"mlops-ceph-{unit}"
    service = store.service(name)
    assert service.is_running
    assert service.is_enabled
    shown = store.check_output(
        f"systemctl show {name} --property=User,Slice,NoNewPrivileges --value"
    )
    assert sorted(shown.split()) == ["mlops-ceph", "mlops.slice", "yes"]
    exposure = store.check_output(f"systemd-analyze security {name} --no-pager | tail --lines=1")
    assert float(exposure.split("service: ")[1].split()[0]) <= 4.0


def test_nothing_of_ceph_listens_outside_of_loopback(store: Any) -> None:
    lines = store.check_output(
        "ss --listening --tcp --numeric --processes --no-header"
    ).splitlines()
    outside = [line for line in lines if "ceph" in line or "radosgw" in line]
    assert len(outside) >= 4
    assert [line for line in outside if not line.split()[3].startswith("127.0.0.1:")] == []


def test_the_gateway_itself_is_not_reachable_from_outside() -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((ADDRESS, 7480), timeout=PATIENCE)


def test_the_cluster_has_nothing_to_complain_about(store: Any) -> None:
    metrics = store.check_output(
        'python3 -c "import urllib.request as u;'
        " print(u.urlopen('http://127.0.0.1:9283/metrics').read().decode())\""
    )
    raised = [
        line
        for line in metrics.splitlines()
        if line.startswith("ceph_health_detail{")
        and not line.endswith(" 0.0")
        # How full the machine below is says nothing about the cluster.
        and "MON_DISK_" not in line
    ]
    assert raised == []
    assert "ceph_osd_up" in metrics


def test_metrics_are_not_for_everybody() -> None:
    context = ssl.create_default_context(cafile=str(CA_FILE))
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{ENDPOINT}:9443/metrics/ceph", context=context)


def test_secrets_are_closed(store: Any) -> None:
    for name in ("cluster.json", "admin.keyring"):
        file = store.file(f"/var/lib/mlops/object_store/{name}")
        assert (file.user, file.mode) == ("root", 0o600)
    assert store.file("/var/lib/mlops/object_store").mode == 0o750
    readable = store.check_output(
        "grep --recursive --files-with-matches --fixed-strings of+the-scenario"
        " /etc /opt /run/mlops* || true"
    )
    assert readable == ""


def test_no_secret_in_the_journal(store: Any) -> None:
    assert store.run("journalctl --no-pager | grep --fixed-strings of+the-scenario").stdout == ""


def test_packaged_units_do_not_run(store: Any) -> None:
    running = store.check_output("systemctl list-units --plain --no-legend 'ceph*' 'rbdmap*'")
    assert running == ""


@pytest.mark.parametrize("unit", ["osd-1", "rgw", "mon"])
def test_it_is_back_after_a_process_was_killed(store: Any, unit: str) -> None:
    store.check_output(f"systemctl kill --kill-whom=main --signal=KILL mlops-ceph-{unit}")
    give_up = time.monotonic() + PATIENCE
    while True:
        try:
            s3 = client(PIPELINE)
            s3.put_object(Bucket="mlops-pipeline", Key="after", Body=unit.encode())
            assert (
                s3.get_object(Bucket="mlops-pipeline", Key="after")["Body"].read() == unit.encode()
            )
            break
        except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError):
            assert time.monotonic() < give_up
            time.sleep(0.5)
    client(PIPELINE).delete_object(Bucket="mlops-pipeline", Key="after")


def test_a_host_that_uses_the_companys_endpoint_gets_nothing(user_of_company: Any) -> None:
    assert not user_of_company.package("ceph-common").is_installed
    assert not user_of_company.file("/etc/mlops/object_store").exists
