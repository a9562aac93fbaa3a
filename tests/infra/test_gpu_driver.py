"""A GPU host after the role, seen from outside. Driver and cards are stand-ins."""

from __future__ import annotations

import re

from testinfra.host import Host

from tests.infra.outside import address

CARD = "GPU-00000000-0000-0000-0000-000000000000"


def metrics(host: Host, job: str) -> str:
    code = (
        "import ssl, urllib.request;"
        "c = ssl.create_default_context(cafile='/etc/mlops/tls/ca.crt');"
        "c.load_cert_chain('/etc/mlops/tls/host.crt', '/etc/mlops/tls/host.key');"
        f"print(urllib.request.urlopen('https://{address(host)}:9443/metrics/{job}', context=c)"
        ".read().decode())"
    )
    return str(host.check_output(f'python3 -c "{code}"'))


def test_the_open_module_was_chosen_and_is_held(host: Host) -> None:
    assert host.package("nvidia-kernel-open-dkms").is_installed
    assert not host.package("nvidia-kernel-dkms").is_installed
    held = host.check_output("apt-mark showhold").split()
    assert {"nvidia-kernel-open-dkms", "nvidia-driver-cuda", "tzdata"} == set(held)


def test_nouveau_is_kept_from_the_cards(host: Host) -> None:
    assert "blacklist nouveau" in host.file("/etc/modprobe.d/mlops-gpu-driver.conf").content_string


def test_the_power_limit_was_set_and_is_set_again_after_a_start(host: Host) -> None:
    said = host.check_output("nvidia-smi --query-gpu=x")
    assert said.count(", 250.00, 100.00") == 2
    script = host.file("/etc/mlops/gpu_driver/settings.sh").content_string
    assert f"nvidia-smi -i {CARD} -pl 250 || true" in script
    assert f"nvidia-smi mig -i {CARD} -cgi 3g.20gb:4 -C || true" in script
    assert host.service("mlops-gpu-settings").is_enabled


def test_metrics_tell_planned_and_seen_cards_over_tls(host: Host) -> None:
    text = metrics(host, "gpu_driver")
    assert f'mlops_gpu_planned{{uuid="{CARD}"}} 1' in text
    assert len(re.findall(r"^mlops_gpu_seen", text, re.M)) == 2
    assert "mlops_gpu_driver_skew 0" in text
    assert 'library="580.105.08"' in text


def test_where_nobody_measures_the_address_says_so(host: Host) -> None:
    assert metrics(host, "gpu").strip() == "# no exporter of GPUs on this host"
    assert not host.socket("tcp://127.0.0.1:9401").is_listening


def test_mig_that_the_card_did_not_take_is_not_taken_for_done(host: Host) -> None:
    rows = host.check_output("nvidia-smi --query-gpu=x").splitlines()
    assert [row.split(", ")[-2:] for row in rows] == [["Disabled", "Enabled"], ["Disabled"] * 2]
