#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a running Ceph monitor should know of its cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ceph_cluster
author: The mlops.onprem developers (@mlops-onprem)
version_added: 0.1.0
short_description: What a running Ceph monitor should know of its cluster
description:
  - Compares what the monitor knows with the identity that M(mlops.onprem.ceph_storage) stored, and
    tells it what is missing or different. Keys, disks, settings, modules, copies of every pool.
  - One connection through librados, no command line, so that no key appears in a process list.
options:
  config:
    description: Configuration file of the cluster.
    type: path
    required: true
  data_dir:
    description: Directory with C(cluster.json) and C(admin.keyring).
    type: path
    required: true
  replicas:
    description: Copies of every object, in every pool.
    type: int
    required: true
  settings:
    description:
      - Settings in the monitor's database.
    type: list
    elements: dict
    default: []
    suboptions:
      who:
        description: Section, for instance V(mgr) or V(osd).
        type: str
        required: true
      name:
        description: Name of the setting.
        type: str
        required: true
      value:
        description: Its value as the monitor prints it.
        type: str
        required: true
  modules:
    description: Modules of the manager that run beside the built-in ones.
    type: list
    elements: str
    default: []
  pools:
    description: Pools to create, so that their users find them ready.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the pool.
        type: str
        required: true
      groups:
        description: Placement groups. Only used when the pool is created.
        type: int
        default: 8
      use:
        description: Application that uses the pool.
        type: str
        default: rgw
  timeout:
    description: Seconds to wait for the monitor.
    type: int
    default: 60
requirements: [python3-rados]
attributes:
  check_mode:
    description: Reports what would be told. A monitor that does not answer is taken as empty.
    support: full
  diff_mode:
    description: Shows the steps in words, without keys.
    support: full
"""

EXAMPLES = r"""
- name: Tell the monitor what belongs to the cluster
  mlops.onprem.ceph_cluster:
    config: /etc/mlops/object_store/ceph.conf
    data_dir: /var/lib/mlops/object_store
    replicas: 2
    settings:
      - {who: mgr, name: mgr/prometheus/server_addr, value: 127.0.0.1}
    modules: [prometheus]
    pools:
      - {name: default.rgw.buckets.data, groups: 32}
"""

RETURN = r"""
steps:
  description: What the monitor was told, or would be told in check mode.
  returned: success
  type: list
  elements: str
  sample: ["register osd.0", "enable the manager's module prometheus"]
"""

import json
import os
import time
import traceback
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.mlops.onprem.plugins.module_utils._ceph.cluster import (
    Known,
    Order,
    Pool,
    Wanted,
    parse_known,
    plan,
)
from ansible_collections.mlops.onprem.plugins.module_utils._ceph.errors import CephError
from ansible_collections.mlops.onprem.plugins.module_utils._ceph.identity import (
    ADMIN,
    Identity,
    load,
)
from ansible_collections.mlops.onprem.plugins.module_utils._ceph.storage import IDENTITY
from ansible_collections.mlops.onprem.plugins.module_utils._findings.sentence import diff_in_words

RADOS_ERROR: str | None = None
try:
    import rados
except ImportError:
    RADOS_ERROR = traceback.format_exc()


class Monitor:
    """A connection to the monitor as the administrator."""

    def __init__(self, config: str, data_dir: str, timeout: int) -> None:
        self._give_up = time.monotonic() + timeout
        self._timeout = timeout
        keyring = os.path.join(data_dir, "admin.keyring")
        self._cluster = rados.Rados(conffile=config, name=ADMIN, conf={"keyring": keyring})

    def connect(self) -> None:
        while True:
            try:
                self._cluster.connect(timeout=5)
                return
            except rados.Error as error:
                if time.monotonic() > self._give_up:
                    raise CephError(
                        f"The monitor did not answer within {self._timeout} seconds ({error}); "
                        "look at 'journalctl -u mlops-ceph-mon'."
                    ) from error
                time.sleep(0.3)

    def close(self) -> None:
        self._cluster.shutdown()

    def ask(self, prefix: str) -> Any:
        return json.loads(
            self.tell({"prefix": prefix, "format": "json"}, "", f"ask for '{prefix}'")
        )

    def tell(self, command: Mapping[str, Any], data: str, doing: str) -> bytes:
        code, answer, said = self._cluster.mon_command(
            json.dumps(dict(command)), data.encode(), timeout=self._timeout
        )
        if code != 0:
            raise CephError(f"Could not {doing}: the monitor answered {code}: {said}")
        return bytes(answer)

    def read(self) -> Known:
        return parse_known(
            self.ask("auth ls"),
            self.ask("osd dump"),
            self.ask("config dump"),
            self.ask("mgr module ls"),
        )

    def apply(self, orders: tuple[Order, ...]) -> None:
        for order in orders:
            self.tell(order.command, order.data, order.text)


def read_identity(data_dir: str) -> Identity | None:
    path = os.path.join(data_dir, IDENTITY)
    try:
        with open(path, encoding="utf-8") as stream:
            return load(stream.read(), path)
    except FileNotFoundError:
        return None


def run(module: AnsibleModule, wanted: Wanted) -> tuple[Order, ...]:
    params = module.params
    identity = read_identity(params["data_dir"])
    if identity is None:
        if module.check_mode:
            return plan(Identity(""), Known(""), wanted)
        raise CephError(f"{params['data_dir']}/{IDENTITY} does not exist; make the stores first.")
    if RADOS_ERROR:
        if module.check_mode:
            return plan(identity, Known(identity.fsid), wanted)
        module.fail_json(msg=missing_required_lib("python3-rados"), exception=RADOS_ERROR)
    monitor = Monitor(
        params["config"], params["data_dir"], 5 if module.check_mode else params["timeout"]
    )
    try:
        try:
            monitor.connect()
        except CephError:
            if module.check_mode:
                return plan(identity, Known(identity.fsid), wanted)
            raise
        orders = plan(identity, monitor.read(), wanted)
        if not module.check_mode:
            monitor.apply(orders)
        return orders
    finally:
        monitor.close()


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {"type": "path", "required": True},
            "data_dir": {"type": "path", "required": True},
            "replicas": {"type": "int", "required": True},
            "settings": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "who": {"type": "str", "required": True},
                    "name": {"type": "str", "required": True},
                    "value": {"type": "str", "required": True},
                },
            },
            "modules": {"type": "list", "elements": "str", "default": []},
            "pools": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "groups": {"type": "int", "default": 8},
                    "use": {"type": "str", "default": "rgw"},
                },
            },
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    params = module.params
    wanted = Wanted(
        params["replicas"],
        tuple(Pool(row["name"], row["groups"], row["use"]) for row in params["pools"]),
        {(row["who"], row["name"]): row["value"] for row in params["settings"]},
        tuple(params["modules"]),
    )
    try:
        orders = run(module, wanted)
    except CephError as error:
        module.fail_json(msg=str(error))
    texts = [order.text for order in orders]
    module.exit_json(
        changed=bool(texts),
        steps=texts,
        diff=diff_in_words("the monitor", texts),
    )


if __name__ == "__main__":
    main()
