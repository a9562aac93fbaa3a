# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: nginx_subject
short_description: An expression of nginx that only one subject of a certificate matches
version_added: 0.3.0
author:
  - The mlops.onprem developers (@mlops-onprem)
description:
  - Answers a quoted regular expression for a C(map) over C($ssl_client_s_dn). It matches the whole
    subject and minds letter case, which a plain string of such a map does not.
  - A name without C(=) stands for a subject of that common name and nothing else, as the
    platform's own certificates have it. With C(=) it is a whole subject as nginx writes it, the
    most particular part first.
options:
  _input:
    description: Common name, or whole subject such as V(CN=prometheus,OU=IT,O=Example).
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show what is asked of a client's certificate
  ansible.builtin.debug:
    msg: "{{ 'ctl1' | mlops.onprem.nginx_subject }}"
"""

RETURN = r"""
_value:
  description: The expression in quotes, with the tilde before it that C(map) wants.
  type: str
"""

import re
from collections.abc import Callable

from ansible.errors import AnsibleFilterError
from ansible_collections.mlops.onprem.plugins.module_utils._trust.subjects import of_common_name


def nginx_subject(name: str) -> str:
    if not isinstance(name, str) or not name.strip():
        raise AnsibleFilterError(
            "nginx_subject takes the common name or the whole subject of a certificate; correct "
            "common_nginx_metrics_clients and common_extra_nginx_metrics_clients."
        )
    subject = name if "=" in name else of_common_name(name)
    pattern = re.escape(subject).replace("\\ ", " ")
    quoted = pattern.replace("\\", "\\\\").replace('"', '\\"')
    return f'"~^{quoted}\\\\z"'


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., str]]:
        return {"nginx_subject": nginx_subject}
