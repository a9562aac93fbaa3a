# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: release_keys
short_description: The keys that releases are verified with, listed ones and the site's own
version_added: 0.3.0
author:
  - The mlops.onprem developers (@mlops-onprem)
description:
  - Adds one key to a list, unless it stands there already, for instance as revoked. Blanks and
    line ends make no other key.
options:
  _input:
    description: Keys, each with C(public_key), as C(model_serving_release_keys) has them.
    type: list
    elements: dict
    required: true
  one:
    description: The key in PEM form, empty for none.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show which keys are trusted
  ansible.builtin.debug:
    msg: "{{ model_serving_release_keys | mlops.onprem.release_keys(model_serving_public_key) }}"
"""

RETURN = r"""
_value:
  description: All of them, those of the list first.
  type: list
  elements: dict
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

Key = Mapping[str, Any]


def release_keys(listed: Sequence[Key], one: str) -> list[Key]:
    if not all(isinstance(key, Mapping) and "public_key" in key for key in listed):
        raise AnsibleFilterError(
            "release_keys was given a key without public_key, wanted public_key for each of them."
        )
    known = {_bare(str(key["public_key"])) for key in listed}
    more = [{"public_key": one.strip()}] if _bare(one) and _bare(one) not in known else []
    return [*listed, *more]


def _bare(key: str) -> str:
    return "".join(key.split())


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., list[Key]]]:
        return {"release_keys": release_keys}
