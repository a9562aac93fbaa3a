#!/usr/bin/python
# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: audit_history
short_description: Answer from the event stream who did what, after checking its chain
version_added: 0.3.0
description:
  - Reads the event stream that the role C(audit_log) keeps on this host, and checks first that no
    line was changed, taken out, moved or cut off. The first one that was is named.
  - The answer is from what stands before it. Without damage it is from everything.
author:
  - The mlops.onprem developers (@mlops-onprem)
options:
  directory:
    description: Where the stream lies.
    type: path
    default: /var/lib/mlops/audit_log
  question:
    description: What is asked. V(check) only checks the chain.
    type: str
    choices: [check, actions, changes, data, denied, person, serving, users]
    default: check
  device:
    description: Device that is asked for.
    type: str
    default: ""
  model:
    description: Model that is asked for.
    type: str
    default: ""
  person:
    description: Account that is asked for.
    type: str
    default: ""
  at:
    description: Moment that is asked for, such as V(2026-11-28T14:30:00Z). Empty is now.
    type: str
    default: ""
  since:
    description: Begin of a period.
    type: str
    default: ""
  through:
    description: End of a period; a day is part of it.
    type: str
    default: ""
  actions:
    description: Actions to list only, such as V(model.alias).
    type: list
    elements: str
    default: []
  heads:
    description: What the nginx of the second host has written down.
    type: str
    default: ""
  teller:
    description: Address of this host, as the second host knows it.
    type: str
    default: ""
  pseudonym_key:
    description: Key of the pseudonyms, to ask for a person by name.
    type: str
    default: ""
extends_documentation_fragment: [mlops.onprem.read_only]
"""

EXAMPLES = r"""
- name: Ask which model answered on a device
  mlops.onprem.audit_history:
    question: serving
    device: edge1
    at: 2026-11-28T14:30:00Z
"""

RETURN = r"""
damage:
  description: The first line that is not as it was written. Empty if all are.
  returned: success
  type: str
  sample: "events-000000000001.jsonl, line 7: it was changed: the line after it names another hash"
chain:
  description: What was checked, in a sentence.
  returned: success
  type: str
text:
  description: The answer for people.
  returned: success
  type: list
  elements: str
rows:
  description: The answer for programs.
  returned: success
  type: list
  elements: dict
covered:
  description: From how many events of which time the answer is.
  returned: success
  type: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.onprem.plugins.module_utils._audit.chain import (
    Head,
    Read,
    parse_heads,
    read,
)
from ansible_collections.mlops.onprem.plugins.module_utils._audit.errors import AuditError
from ansible_collections.mlops.onprem.plugins.module_utils._audit.questions import (
    KINDS,
    Answer,
    Question,
    answer,
    covered,
)
from ansible_collections.mlops.onprem.plugins.module_utils._audit.store import read_whole

WORDS = ("device", "model", "person", "at", "since")
ARGUMENTS: dict[str, Any] = {
    "directory": {"type": "path", "default": "/var/lib/mlops/audit_log"},
    "question": {"type": "str", "default": "check", "choices": ["check", *sorted(KINDS)]},
    **{name: {"type": "str", "default": ""} for name in WORDS},
    "through": {"type": "str", "default": ""},
    "actions": {"type": "list", "elements": "str", "default": []},
    "heads": {"type": "str", "default": ""},
    "teller": {"type": "str", "default": ""},
    "pseudonym_key": {"type": "str", "default": "", "no_log": True},
}


def said(found: Read, heads: list[Head]) -> str:
    """What was checked."""
    if not found.events:
        return "The stream is empty."
    first, last = found.events[0].seq, found.events[-1].seq
    told = [one for one in heads if one.seq >= first]
    second = (
        f"the second host was told {len(told)} hashes of them, the last of line {told[-1].seq}"
        if told
        else "no second host vouches for them"
    )
    return f"Lines {first} to {last} are as they were written; {second}."


def main() -> None:
    """Ansible's entry point."""
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    asked = module.params
    try:
        segments, known = read_whole(Path(asked["directory"]))
        heads, _bad = parse_heads(asked["heads"], asked["teller"])
        found = read(segments, heads, known)
        told = Answer(())
        if asked["question"] != "check":
            question = Question(
                asked["question"],
                **{name: asked[name] for name in WORDS},
                until=asked["through"],
                actions=tuple(asked["actions"]),
            )
            told = answer(question, found.events, asked["pseudonym_key"])
    except (AuditError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=False,
        damage=found.damage.sentence() if found.damage else "",
        chain=said(found, heads),
        text=list(told.text),
        rows=[dict(one) for one in told.rows],
        covered=covered(found.events),
    )


if __name__ == "__main__":
    main()
