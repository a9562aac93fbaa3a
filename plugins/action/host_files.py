# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders templates and reads sources on the controller, then calls the module once."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.text.converters import to_bytes, to_text
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import lookup_loader
from ansible_collections.mlops.onprem.plugins.plugin_utils import settled
from ansible_collections.mlops.onprem.plugins.plugin_utils.whose import OPTION, site_of

WAYS = ("template", "source", "content", "link", "payload", "secret_payload")


class ActionModule(ActionBase):  # type: ignore[misc]
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        task_vars = task_vars or {}
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        rows = arguments.get("files") or []
        try:
            if not isinstance(rows, (list, tuple)):
                raise AnsibleActionFail("files has to be a list.")
            contents = Contents(self._loader, self._templar, task_vars, self._find_needle)
            pairs = [contents.of(row) for row in rows]
            arguments["files"] = [settled.digested(*pair) for pair in pairs]
            answer = settled.told(self._task, "host_files", arguments, task_vars)
            if answer is not None:
                return answer
            arguments["files"] = [_sent(*pair, row) for pair, row in zip(pairs, rows, strict=True)]
        except AnsibleActionFail as error:
            # Returned, not raised: so failed_when can judge it.
            result.update(failed=True, changed=False, msg=to_text(error))
            return result
        arguments[OPTION] = site_of(task_vars, self._templar)
        result.update(self._execute_module(module_args=arguments, task_vars=task_vars))
        # The arguments hold the contents; there is no use in showing them.
        result.pop("invocation", None)
        return result


def _sent(sent: dict[str, Any], content: bytes | None, row: Any) -> dict[str, Any]:
    """The row as the module takes it: with the content instead of where it comes from."""
    if content is not None:
        sensitive = row.get("sensitive", False) is True
        name = "secret_payload" if sensitive else "payload"
        sent[name] = base64.b64encode(content).decode("ascii")
    return sent


class Shared(dict):  # type: ignore[type-arg]
    """Variables of which the lookup C(template), which copies them deeply, gets a shallow copy.

    Rendering changes no variable, and all of a host's take longer to copy than a file to render.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return dict(self)


class Contents:
    """The contents of files as a task gives them; C(find) looks in the folders of the role."""

    def __init__(
        self,
        loader: Any,
        templar: Any,
        variables: dict[str, Any],
        find: Callable[[str, str], Any],
    ) -> None:
        self._loader = loader
        self._templar = templar
        self._variables = Shared(variables)
        self._find = find

    def of(self, row: Any) -> tuple[dict[str, Any], bytes | None]:
        """The row without its content, and the content; none for a link or what is sent already."""
        if not isinstance(row, dict) or "path" not in row:
            raise AnsibleActionFail("Each entry of files has to be a dictionary with a path.")
        ways = [name for name in WAYS if row.get(name) is not None]
        if len(ways) != 1:
            raise AnsibleActionFail(
                f"files {row['path']}: give exactly one of template, source, content and link."
            )
        way = ways[0]
        if way not in ("template", "source", "content"):
            return dict(row), None
        if way == "template":
            content = self._rendered(str(row[way]))
        elif way == "source":
            content = self._read(str(row[way]))
        elif isinstance(row[way], str):
            content = to_bytes(row[way])
        else:
            content = to_bytes(json.dumps(row[way], indent=2, sort_keys=True) + "\n")
        return {key: value for key, value in row.items() if key not in WAYS}, content

    def _read(self, name: str) -> bytes:
        path = self._loader.get_real_file(self._found("files", name))
        try:
            with open(path, "rb") as stream:
                return stream.read()
        finally:
            self._loader.cleanup_tmp_file(path)

    def _rendered(self, name: str) -> bytes:
        path = self._found("templates", name)
        lookup = lookup_loader.get(
            "ansible.builtin.template", loader=self._loader, templar=self._templar
        )
        try:
            (rendered,) = lookup.run([path], variables=self._variables)
        except AnsibleError as error:
            raise AnsibleActionFail(f"The template {name} cannot be rendered: {error}") from error
        if rendered is None:
            return b""
        if not isinstance(rendered, str):
            return json.dumps(rendered).encode()
        return rendered.encode()

    def _found(self, folder: str, name: str) -> str:
        try:
            return str(self._find(folder, name))
        except AnsibleError as error:
            raise AnsibleActionFail(to_text(error)) from error
