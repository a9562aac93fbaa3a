#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_files
short_description: Place users, directories and files of a role in one step
version_added: 0.1.0
description:
  - Creates system users and groups, directories, files and symbolic links in one round trip.
  - Templates and source files are found as M(ansible.builtin.template) finds them, and
    rendered on the controller.
  - Everything that did not exist before is recorded in the host's ledger before it is made, so
    that M(mlops.onprem.host_remove) takes away exactly that.
  - A file, directory or user that is already there and not ours is left alone if it is as asked,
    and refused otherwise.
  - A file is replaced in one step, after its O(files[].validate) command accepted it.
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  site_id:
    description:
      - Identity of the site that the task is for, as the action plugin sends it. A host that says
        it belongs to another site is refused. Not for playbooks.
    type: str
  role:
    description: Role to which the things belong.
    type: str
    required: true
  groups:
    description: System groups.
    type: list
    elements: str
    default: []
  users:
    description: System users without login, each with a primary group of the same name.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the user.
        type: str
        required: true
      home:
        description:
          - Home directory as entered in the user database. It is not created. Default is
            C(/var/lib/mlops/<name>).
        type: path
      groups:
        description:
          - Further groups. One that does not exist is created and belongs to every role that asked
            for it.
        type: list
        elements: str
        default: []
      left_groups:
        description:
          - Groups that the user shall not be in, such as those that an earlier version of the role
            asked for.
        type: list
        elements: str
        default: []
      shell:
        description: Login shell.
        type: str
        default: /usr/sbin/nologin
      comment:
        description: Description of the user.
        type: str
        default: ""
  directories:
    description:
      - Directories. One that we made is removed with everything in it when its last role goes.
        Missing directories above are made, too.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      owner:
        description: User it belongs to.
        type: str
        default: root
      group:
        description: Group it belongs to.
        type: str
        default: root
      mode:
        description: Octal mode in quotes.
        type: str
        default: "0755"
      guests:
        description:
          - A program of ours writes here as users that are not ours, as a scheduler does for those
            whose jobs it runs. All in it is then ours, and goes with the directory; without this,
            what other users own there is theirs and stays.
        type: bool
        default: false
        version_added: 0.3.0
  files:
    description:
      - Files and symbolic links, each by exactly one of template, source, content and link.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      template:
        description: Template in the role's C(templates) directory, rendered on the controller.
        type: str
      source:
        description: File in the role's C(files) directory.
        type: str
      content:
        description: The text itself.
        type: str
      link:
        description: Where the symbolic link points.
        type: str
      owner:
        description: User it belongs to.
        type: str
        default: root
      group:
        description: Group it belongs to.
        type: str
        default: root
      mode:
        description: Octal mode in quotes.
        type: str
        default: "0644"
      validate:
        description:
          - Command that must accept the new file before it replaces the old one. C(%s) stands for
            its path, in the same directory and with the same ending. No shell.
        type: str
      sensitive:
        description: The content is secret. Neither shown in the diff nor logged.
        type: bool
        default: false
      adopt:
        description:
          - Replace a file that is not ours, such as a package's configuration. The original is kept
            in the ledger and put back on removal.
        type: bool
        default: false
      payload:
        description: The content as the action plugin sends it, base64. Not for playbooks.
        type: str
      secret_payload:
        description: Like O(files[].payload), for sensitive files. Not for playbooks.
        type: str
  absent:
    description: Files that shall not exist any more. Only what is ours is removed.
    type: list
    elements: path
    default: []
extends_documentation_fragment: [mlops.onprem.previewed]
seealso:
  - module: mlops.onprem.host_remove
  - module: mlops.onprem.host_service
"""

EXAMPLES = r"""
- name: Place the configuration of the monitoring role
  mlops.onprem.host_files:
    role: monitoring
    users:
      - {name: mlops-prometheus, home: /var/lib/mlops/monitoring/prometheus, groups: [mlops-tls]}
    directories:
      - {path: /etc/mlops/monitoring}
      - path: /var/lib/mlops/monitoring/prometheus
        owner: mlops-prometheus
        group: mlops-prometheus
        mode: "0750"
    files:
      - path: /etc/mlops/monitoring/prometheus.yml
        template: prometheus.yml.j2
        group: mlops-prometheus
        mode: "0640"
        validate: promtool check config %s
      - path: /etc/mlops/monitoring/password
        content: "{{ monitoring_database_password }}"
        mode: "0600"
        sensitive: true
    absent: [/etc/mlops/monitoring/old.yml]
"""

RETURN = r"""
changes:
  description: What was done, one short sentence each.
  returned: success
  type: list
  elements: str
  sample: ["user mlops-prometheus: created", "/etc/mlops/monitoring/prometheus.yml: content"]
owners:
  description:
    - Roles that want all of this now. Each could make the same call without any change.
    - None where nothing of it is the platform's.
  returned: success
  type: list
  elements: str
  sample: [gateway, monitoring]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._findings.errors import finish
from ansible_collections.mlops.onprem.plugins.module_utils._host import args, files_apply


def work(module: AnsibleModule) -> dict[str, Any]:
    return files_apply.converge(module.params, module.check_mode)


def main() -> None:
    finish(
        AnsibleModule(
            argument_spec=dict(args.FILES),
            supports_check_mode=True,
        ),
        work,
    )


if __name__ == "__main__":
    main()
