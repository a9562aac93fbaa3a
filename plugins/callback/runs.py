# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts what a run changes, and leaves word of one that failed before it could say so itself."""

from __future__ import annotations

DOCUMENTATION = r"""
name: runs
type: aggregate
short_description: Count what a run changed, for the event stream
version_added: 0.3.0
author: The mlops.onprem developers (@mlops-onprem)
description:
  - Counts the tasks that changed something by host, which M(mlops.onprem.audit_run) hands to the
    event stream at the end of C(site.yml).
  - Keeps for the time of the run what M(mlops.onprem.host_ask) was told, so that hosts are not
    asked twice about the same.
  - A run that told the event stream that it begins, and fails, leaves a record with the hosts that
    failed in C(runs) below the state directory of the site. The next run hands it in, and so does
    C(history.yml).
  - Prints nothing.
requirements:
  - enable in configuration (callbacks_enabled)
"""

from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase
from ansible_collections.mlops.onprem.plugins.plugin_utils.run_so_far import (
    ENDED,
    THIS,
    keep,
    now,
)


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """See DOCUMENTATION."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "mlops.onprem.runs"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, display: Any = None, options: Any = None) -> None:
        super().__init__(display, options)
        self._directory: Path | None = None
        self._finished = False
        THIS.counted = True

    def v2_playbook_on_start(self, playbook: Any) -> None:
        THIS.playbook = Path(str(playbook._file_name)).name

    def _host(self, result: Any) -> str:
        return str(result.host.get_name())

    def v2_runner_on_ok(self, result: Any) -> None:
        told = result.result
        if told.get("changed"):
            THIS.changed[self._host(result)] += 1
            THIS.touched = True
        if result.task.action == "mlops.onprem.host_ask":
            THIS.settled[self._host(result)] = told.get("settled") or {}
        if result.task.action == "mlops.onprem.audit_run" and told.get("directory"):
            self._directory = Path(told["directory"])
            self._finished = told.get("phase") == ENDED

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        THIS.touched = True
        if not ignore_errors:
            THIS.failed.add(self._host(result))

    def v2_runner_on_unreachable(self, result: Any) -> None:
        THIS.failed.add(self._host(result))

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The run is over. If it began for the stream and did not say that it ended, it failed."""
        if self._directory is None or self._finished:
            return
        THIS.failed = {
            host
            for host in stats.processed
            if stats.summarize(host)["failures"] or stats.summarize(host)["unreachable"]
        }
        try:
            keep(THIS.record(ENDED, now(), complete=False), self._directory)
        except OSError as error:
            self._display.warning(f"The event stream will not learn how this run ended: {error}")
