#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_service
short_description: Run a program as a sandboxed systemd service that follows its configuration
version_added: 0.1.0
description:
  - Writes a systemd unit with a sandbox, enables and starts it, and waits until it is healthy.
  - Restarts or reloads by state instead of by notification. What the running process was started
    with is recorded; if the unit or anything in O(restart_on) differs from it, the service is
    restarted, however long ago and by which run the difference was made.
  - The unit runs in C(mlops.slice) and is restarted without limit when it ends.
  - Other directives than the defaults are given by O(settings).
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  site_id:
    description:
      - Identity of the site that the task is for, as the action plugin sends it. A host that says
        it belongs to another site is refused. Not for playbooks.
    type: str
  role:
    description: Role to which the service belongs.
    type: str
    required: true
  name:
    description: Name of the unit without C(.service).
    type: str
    required: true
  description:
    description: What the service is, for C(systemctl status).
    type: str
    default: ""
  command:
    description:
      - Program and arguments, taken literally. Nothing is expanded. No secrets, as everybody on the
        host can read them.
    type: list
    elements: str
    default: []
  user:
    description: User to run as. Required unless O(dropin).
    type: str
    default: ""
  environment:
    description: Environment of the program. No secrets, as everybody on the host can read the unit.
    type: dict
    default: {}
  environment_file:
    description:
      - File with further environment, such as secrets. Read by systemd, so that root alone needs to
        read it.
    type: path
  writable:
    description: Paths that the service may write to. Everything else is read-only for it.
    type: list
    elements: path
    default: []
  settings:
    description:
      - Directives by section of the unit, over the defaults. A list gives several lines; null
        leaves a default out.
      - Directives with braces or paths are taken as systemd reads them, percent signs included.
    type: dict
    default: {}
  restart_on:
    description: Files, directories and globs whose content the program reads only at start.
    type: list
    elements: path
    default: []
  reload_on:
    description:
      - Files, directories and globs whose content the program reads again on C(ExecReload). Without
        one it is restarted.
    type: list
    elements: path
    default: []
  health:
    description:
      - How to know that the service works, asked until it does. One of url, tcp and command.
        Without it, the unit has to stay active.
    type: dict
    suboptions:
      url:
        description: Address that shall answer.
        type: str
      socket:
        description: Unix socket to ask instead of the host and port in O(health.url).
        type: path
      status:
        description: Accepted HTTP statuses. Default is 200.
        type: list
        elements: int
      contains:
        description: Text that the answer or output shall contain.
        type: str
      method:
        description: HTTP method. Default is GET.
        type: str
      headers:
        description: HTTP headers.
        type: dict
      user:
        description: Account to show, with the password in C(password_file).
        type: str
      password_file:
        description: File on the host with the password of C(user), read when it is asked.
        type: path
      ca:
        description:
          - Certificates to trust. Default is C(/etc/mlops/tls/ca.crt) if it exists, else those of
            the host.
        type: path
      client_cert:
        description: Certificate to show.
        type: path
      client_key:
        description: Key of the certificate.
        type: path
      server_name:
        description: Name to expect in the server's certificate. Default is the one in the address.
        type: str
      tcp:
        description: Address and port that shall accept a connection.
        type: str
      command:
        description: Command that shall end with 0.
        type: list
        elements: str
      timeout:
        description: Seconds to wait.
        type: int
        default: 60
  restore:
    description:
      - Directories of small text files whose content is kept when the service accepts it, and put
        back when it refuses a reload or start with what came after. Thus one wrong file neither
        keeps the service down after a crash nor holds up what others want from it.
    type: list
    elements: path
    default: []
  dropin:
    description:
      - The unit comes with a package. Only a drop-in is written, with sandbox, slice and settings;
        where packaged directives add up, ours replace them.
    type: bool
    default: false
  only_if_present:
    description:
      - Do nothing unless the platform runs this service on the host already. The role does not
        become one of its owners.
    type: bool
    default: false
  timer:
    description:
      - Directives of a timer that starts the service again and again. Then the program is one that
        ends by itself, the timer and not the service is enabled and kept up, and O(restart_on)
        starts the timer anew.
    type: dict
    default: {}
    version_added: 0.3.0
extends_documentation_fragment: [mlops.onprem.previewed]
seealso:
  - module: mlops.onprem.host_files
  - module: mlops.onprem.host_check
"""

EXAMPLES = r"""
- name: Run Prometheus
  mlops.onprem.host_service:
    role: monitoring
    name: mlops-prometheus
    description: Prometheus of the MLOps platform
    command: [/usr/bin/prometheus, --config.file=/etc/mlops/monitoring/prometheus.yml]
    user: mlops-prometheus
    writable: [/var/lib/mlops/monitoring/prometheus]
    settings:
      Service:
        ExecReload: /bin/kill -HUP $MAINPID
        MemoryMax: 1G
    reload_on: [/etc/mlops/monitoring/prometheus.yml, /etc/mlops/monitoring/rules.d]
    health:
      url: http://127.0.0.1:9090/-/ready
      timeout: 60

- name: Look every ten seconds, also after a restart of the host
  mlops.onprem.host_service:
    role: model_serving
    name: mlops-release-deadline
    command: [/opt/mlops/model_serving_app/mlops-release, revert-expired]
    user: root
    timer: {OnBootSec: 10, OnUnitInactiveSec: 10, AccuracySec: 1}
"""

RETURN = r"""
action:
  description: What was done to the process. One of V(nothing), V(start), V(restart) and V(reload).
  returned: success
  type: str
  sample: restart
changes:
  description: What was done, one short sentence each.
  returned: success
  type: list
  elements: str
owners:
  description:
    - Roles that want this service now. Each could make the same call without any change.
    - None where nothing of it is the platform's.
  returned: success
  type: list
  elements: str
  sample: [gateway, monitoring]
waited:
  description: Seconds until the service was healthy.
  returned: success
  type: float
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._findings.errors import finish
from ansible_collections.mlops.onprem.plugins.module_utils._host import args, service_apply


def work(module: AnsibleModule) -> dict[str, Any]:
    return service_apply.converge(module.params, module.check_mode)


def main() -> None:
    finish(
        AnsibleModule(
            argument_spec=dict(args.SERVICE),
            supports_check_mode=True,
        ),
        work,
    )


if __name__ == "__main__":
    main()
