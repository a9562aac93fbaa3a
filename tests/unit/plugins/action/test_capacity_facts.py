# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that closes the connection without a word is asked again, for the word."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible_collections.mlops.onprem.plugins.action.capacity_facts import AGAIN, ActionModule

PIPE = 'Data could not be sent to remote host "h1": [Errno 32] Broken pipe'
KEY = "No ED25519 host key is known for h1 and you have requested strict checking."


class Asked(ActionModule):
    """The action, without a connection."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def _execute_module(self, *_args: Any, **_more: Any) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def ask(self) -> dict[str, Any]:
        return self._asked({}, {})


@pytest.mark.parametrize(
    "lost", [AnsibleConnectionFailure(PIPE), {"unreachable": True, "msg": PIPE}]
)
def test_what_was_lost_is_asked_for_again(lost: Any) -> None:
    assert Asked(lost, {"unreachable": True, "msg": KEY}).ask()["msg"] == KEY


def test_a_reason_that_was_given_is_taken() -> None:
    asked = Asked(AnsibleConnectionFailure(KEY), {"never": "asked"})
    with pytest.raises(AnsibleConnectionFailure, match="host key is known"):
        asked.ask()
    assert len(asked.answers) == 1


def test_it_ends_where_nothing_is_ever_said() -> None:
    asked = Asked(*[AnsibleConnectionFailure(PIPE)] * (AGAIN + 1))
    with pytest.raises(AnsibleConnectionFailure, match="Broken pipe"):
        asked.ask()
    assert asked.answers == []
