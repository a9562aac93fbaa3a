# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image of somebody else, by its digest from the site's registry, is really started by podman.

What a host of the company has and these containers lack is put in their place first: a storage
without overlays in overlays, a view of /proc that user namespaces may have, and no controllers.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.containers import (
    base_uid,
    quadlets,
)
from ansible_collections.mlops.onprem.plugins.module_utils._workloads.placed import of_inventory

from extensions.molecule.compute.hosts import module, on

pytestmark = pytest.mark.soak
HOST, REGISTRY = "cgpu1", "10.209.0.10:5443"
LOGIN, SAID = "/root/login.json", "hello from a container"
PREPARE = f"""
set -e
apt-get install -y -q --no-install-recommends \
  podman crun netavark aardvark-dns iptables uidmap busybox-static >/dev/null
for place in $(awk '$2 ~ "^/proc/." {{print $2}}' /proc/mounts | sort -r); do umount -l $place; done
cd /etc/containers
printf '[storage]\\ndriver="vfs"\\nrunroot="/run/storage"\\ngraphroot="/srv/pods"\\n' >storage.conf
printf '[containers]\\ndefault_sysctls=[]\\npids_limit=0\\n' >containers.conf
printf '[network]\\nfirewall_driver="iptables"\\n' >>containers.conf
mkdir -p /root/image/bin /root/image/www /etc/containers/certs.d/{REGISTRY}
ln -sfn /etc/mlops/tls/ca.crt /etc/containers/certs.d/{REGISTRY}/mlops.crt
cp "$(command -v busybox)" /root/image/bin/busybox
echo {SAID} >/root/image/www/index.html
tar -C /root/image -c . | podman import -q - {REGISTRY}/models/page:1 >/dev/null
podman push -q --creds push:push-of-the-scenario --digestfile /root/digest {REGISTRY}/models/page:1
podman rmi -f -a >/dev/null
podman login --authfile {LOGIN} -u pull -p pull-of-the-scenario {REGISTRY} >/dev/null
cat /root/digest
"""
ASK = "python3 -c 'import urllib.request as u; print(u.urlopen(\"{}\").read().decode())'"


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """An image in the registry, of which the host has nothing."""
    digest = on(HOST, PREPARE).strip().splitlines()[-1]
    yield f"{REGISTRY}/models/page@{digest}"
    on(HOST, "rm -rf /root/image /root/digest /root/login.json")


def test_a_container_answers_with_its_limits_and_is_nobody_on_the_host(image: str) -> None:
    words = ["/bin/busybox", "httpd", "-f", "-p", "18080", "-h", "/www"]
    page = {
        "name": "page",
        "kind": "service",
        "requests": {"cpu_cores": 0.2, "memory": "50MiB"},
        "limits": {"cpu_cores": 0.25, "memory": "60MiB"},
        "run": {"image": image, "port": 18080, "health": "/index.html", "command": words},
    }
    placed = of_inventory([page], [{"workload": "page", "replica": 0, "host": HOST}])
    (made,) = quadlets(placed, HOST, {}, 25, (REGISTRY, LOGIN))
    address = f"http://127.0.0.1:{made.port}{made.health}"
    asked = {"role": made.owner, "name": made.name, "text": made.text, "health": {"url": address}}
    assert module(HOST, "host_quadlet", **asked)["changed"] is True
    assert SAID in on(HOST, ASK.format(address))
    unit = on(HOST, f"systemctl show {made.name} -p MemoryMax,CPUQuotaPerSecUSec")
    assert f"MemoryMax={60 * 2**20}\n" in unit
    assert "CPUQuotaPerSecUSec=250ms" in unit
    assert str(base_uid(made.name)) in on(HOST, "ps -o uid= -C busybox")
    assert module(HOST, "host_quadlet", **asked)["changed"] is False
    assert module(HOST, "workload_retire", prefix="workload_container_", keep=[])["changed"] is True
    assert (
        on(HOST, f"podman ps -aq; ls /etc/containers/systemd | grep {made.name}", check=False) == ""
    )
