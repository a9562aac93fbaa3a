# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress in plain words: a heading a stage, a line a change, the time of everything."""

from __future__ import annotations

DOCUMENTATION = r"""
name: progress
type: stdout
short_description: Progress of a run in plain words
version_added: 0.1.0
author: The mlops.onprem developers (@mlops-onprem)
description:
  - Prints one heading for each play and one line for each task that changed or found something,
    with the seconds it took and the hosts concerned. On a terminal the task under way is shown.
  - Ends with the time of each stage and the usual recap.
  - From C(-v) on it prints what the C(ansible.builtin.default) callback prints.
  - Messages of M(ansible.builtin.debug) are printed as the text they are.
options:
  timings_file:
    description:
      - File that receives the measured times as JSON; seconds by stage, role and task, and
        the number of tasks by host.
    type: path
    env:
      - name: MLOPS_TIMINGS_FILE
    ini:
      - section: callback_progress
        key: timings_file
extends_documentation_fragment:
  - default_callback
  - result_format_callback
requirements:
  - set as stdout callback in configuration
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible.plugins.callback.default import CallbackModule as DefaultCallback
from ansible_collections.mlops.onprem.plugins.module_utils._findings.sentence import printable
from ansible_collections.mlops.onprem.plugins.plugin_utils import payloads
from ansible_collections.mlops.onprem.plugins.plugin_utils.preload import (
    keep_variables,
    preload,
    preload_action,
)

NAME_WIDTH = 62
SLOW_TASK_SECONDS = 10.0
TASKS_OF_A_SHORT_RUN = 3  # with fewer, loading everything costs more than it saves


class Stage:
    """One play: its name, when it began, and what its tasks took."""

    def __init__(self, name: str, started: float) -> None:
        self.name = name
        self.started = started
        self.seconds = 0.0
        self.tasks = 0
        self.changed: set[str] = set()
        self.changes = 0


class RunningTask:
    """The task under way and what its hosts have answered so far."""

    def __init__(self, name: str, role: str, started: float) -> None:
        self.name = name
        self.role = role
        self.started = started
        self.hosts: set[str] = set()
        self.changed: list[str] = []
        self.diffs: list[str] = []


def shorten(names: list[str]) -> str:
    """Name up to five hosts; count the rest."""
    ordered = sorted(names)
    if len(ordered) <= 5:
        return ", ".join(ordered)
    return f"{', '.join(ordered[:4])} and {len(ordered) - 4} more"


def safe(value: Any) -> Any:
    """Anything a module answers, without what would steer a terminal."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {key: safe(one) for key, one in value.items()}
    return [safe(one) for one in value] if isinstance(value, (list, tuple)) else value


def taken_down(task: Any) -> bool:
    """Whether a failure becomes a finding of the assessment, where it is told with its remedy."""
    place = task
    while place is not None:
        rescue = getattr(place, "rescue", None) or []
        if any(getattr(one, "action", "") == "mlops.onprem.preflight" for one in rescue):
            return True
        place = getattr(place, "_parent", None)
    return False


class CallbackModule(DefaultCallback):  # type: ignore[misc]
    """Standard output callback; see DOCUMENTATION."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "mlops.onprem.progress"

    def __init__(self) -> None:
        super().__init__()
        self._started = time.monotonic()
        self._stages: list[Stage] = []
        self._task: RunningTask | None = None
        self._rows: list[dict[str, Any]] = []
        self._host_tasks: dict[str, int] = {}
        self._terminal = sys.stdout.isatty()
        self._transient = False
        self._begun = 0
        self._packs: Path | None = None

    # -- printing ---------------------------------------------------------------------------

    @property
    def _plain(self) -> bool:
        return bool(self._display.verbosity == 0)

    def _wipe(self) -> None:
        if self._transient:
            sys.stdout.write("\r\033[K")
            sys.stdout.flush()
            self._transient = False

    def _say(self, text: str, color: str | None = None, *, coloured: bool = False) -> None:
        """Print a text; one that Ansible has coloured already was made safe before."""
        self._wipe()
        self._display.display(text if coloured else printable(text), color=color)

    def _show_under_way(self, text: str) -> None:
        if not self._terminal:
            return
        self._wipe()
        columns = os.get_terminal_size().columns if self._terminal else 80
        sys.stdout.write(f"         … {text}"[: columns - 1])
        sys.stdout.flush()
        self._transient = True

    # -- bookkeeping ------------------------------------------------------------------------

    def _end_task(self) -> None:
        task = self._task
        if task is None:
            return
        self._task = None
        seconds = time.monotonic() - task.started
        stage = self._stages[-1]
        if task.hosts:
            stage.tasks += 1
            stage.changes += len(task.changed)
            stage.changed.update(task.changed)
            self._rows.append(
                {
                    "stage": stage.name,
                    "role": task.role,
                    "task": task.name,
                    "seconds": round(seconds, 3),
                    "hosts": len(task.hosts),
                    "changed": len(task.changed),
                }
            )
        if not self._plain:
            return
        if task.changed:
            line = f"{seconds:7.1f}s  {task.name:<{NAME_WIDTH}} {shorten(task.changed)}"
            self._say(line, C.COLOR_CHANGED)
        elif seconds >= SLOW_TASK_SECONDS:
            self._say(f"{seconds:7.1f}s  {task.name}")
        for diff in task.diffs:
            self._say(diff.rstrip("\n"), coloured=True)
        self._wipe()

    def _end_stage(self) -> None:
        self._end_task()
        if not self._stages or self._stages[-1].seconds:
            return
        stage = self._stages[-1]
        stage.seconds = time.monotonic() - stage.started
        if self._plain and stage.tasks:
            what = f"changes: {stage.changes}" if stage.changes else "nothing to change"
            self._say(f"{stage.seconds:7.1f}s  tasks: {stage.tasks}, {what}", C.COLOR_OK)

    def _note(self, result: Any, failed: bool = False) -> None:
        host = result.host.get_name()
        self._host_tasks[host] = self._host_tasks.get(host, 0) + 1
        if self._task is not None:
            self._task.hosts.add(host)
            if result.result.get("changed", False) and not failed:
                self._task.changed.append(host)

    # -- events -----------------------------------------------------------------------------

    def v2_playbook_on_start(self, playbook: Any) -> None:
        self._packs = payloads.bring()
        super().v2_playbook_on_start(playbook)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        keep_variables(play.get_loader(), play.get_search_path(), play.get_vars_files())
        self._end_stage()
        name = play.get_name().strip()
        self._stages.append(Stage(name, time.monotonic()))
        if not self._plain:
            super().v2_playbook_on_play_start(play)
            return
        self._play = play
        since = int(time.monotonic() - self._started)
        mode = "  (check mode: nothing is changed)" if play.check_mode else ""
        self._say(f"\n{since // 60:2d}:{since % 60:02d}  {name}{mode}", "bright blue")

    def _task_start(self, task: Any, prefix: str | None = None) -> None:
        self._end_task()
        self._begun += 1
        if self._begun == TASKS_OF_A_SHORT_RUN:
            preload()
        preload_action(str(task.action))
        role = task._role.get_name() if task._role is not None else ""
        name = task.get_name().strip()
        if role and name.startswith(f"{role} : "):
            name = name[len(role) + 3 :]
        self._task = RunningTask(name, role.rpartition(".")[2], time.monotonic())
        if not self._plain:
            super()._task_start(task, prefix)
            return
        self._last_task_name = task.get_name().strip()
        self._show_under_way(name)

    def v2_runner_on_ok(self, result: Any) -> None:
        self._note(result)
        if not self._plain:
            super().v2_runner_on_ok(result)
            return
        self._wipe()
        self._handle_warnings_and_exception(result)
        if result.task.action in ("debug", "ansible.builtin.debug"):
            self._print_messages(result)

    def _print_messages(self, result: Any) -> None:
        answers = result.result.get("results") or [result.result]
        for answer in answers:
            message = answer.get("msg")
            if isinstance(message, str):
                self._say(message.rstrip("\n"))
            elif isinstance(message, (list, tuple)):
                self._say("\n".join(str(line) for line in message))

    def v2_runner_on_skipped(self, result: Any) -> None:
        if not self._plain:
            super().v2_runner_on_skipped(result)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        if not self._plain:
            super().v2_runner_item_on_ok(result)

    def v2_runner_item_on_skipped(self, result: Any) -> None:
        if not self._plain:
            super().v2_runner_item_on_skipped(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._note(result, failed=True)
        if not self._plain:
            super().v2_runner_on_failed(result, ignore_errors)
            return
        if ignore_errors or taken_down(result.task):
            return
        self._wipe()
        self._print_failure(result.host.get_name(), result)

    def v2_runner_item_on_failed(self, result: Any) -> None:
        if not self._plain:
            super().v2_runner_item_on_failed(result)
            return
        self._print_failure(result.host.get_name(), result)

    def _print_failure(self, host: str, result: Any) -> None:
        task = self._task.name if self._task else result.task.get_name()
        answer = result.result
        self._say(f"  FAILED  {task}", C.COLOR_ERROR)
        self._say(f"          {host}: {answer.get('msg', 'no message')}", C.COLOR_ERROR)
        for key in ("stderr", "stdout"):
            if answer.get(key):
                self._say(f"          {key}: {str(answer[key])[-2000:]}", C.COLOR_ERROR)
        if answer.get("results") is None and result.task.get_path():
            self._say(f"          at {result.task.get_path()}", C.COLOR_ERROR)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        if not self._plain:
            super().v2_runner_on_unreachable(result)
            return
        host = result.host.get_name()
        color = C.COLOR_WARN if result.task.ignore_unreachable else C.COLOR_UNREACHABLE
        self._say(f"  UNREACHABLE  {host}: {result.result.get('msg', '')}", color)

    def v2_on_file_diff(self, result: Any) -> None:
        if not self._plain:
            super().v2_on_file_diff(result)
            return
        if self._task is None:
            return
        for answer in result.result.get("results") or [result.result]:
            if answer.get("diff") and answer.get("changed", False):
                self._task.diffs.append(self._get_diff(safe(answer["diff"])))

    def v2_playbook_on_include(self, included_file: Any) -> None:
        if not self._plain:
            super().v2_playbook_on_include(included_file)

    def v2_runner_retry(self, result: Any) -> None:
        if not self._plain:
            super().v2_runner_retry(result)
            return
        name = self._task.name if self._task else ""
        self._show_under_way(f"{name} (try {result.result['attempts']})")

    def v2_playbook_on_no_hosts_matched(self) -> None:
        if not self._plain:
            super().v2_playbook_on_no_hosts_matched()

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._end_stage()
        total = time.monotonic() - self._started
        self._print_stage_times(total)
        self._write_timings(total)
        payloads.keep(self._packs)
        super().v2_playbook_on_stats(stats)

    def _print_stage_times(self, total: float) -> None:
        shown = [stage for stage in self._stages if stage.tasks]
        if not shown:
            return
        width = max(len(stage.name) for stage in shown)
        self._say("\nWhere the time went")
        for stage in shown:
            blocks = "█" * round(40 * stage.seconds / max(total, 0.001))
            self._say(f"  {stage.name:<{width}} {stage.seconds:7.1f} s  {blocks}")
        self._say(f"  {'all':<{width}} {total:7.1f} s")

    def _write_timings(self, total: float) -> None:
        path = self.get_option("timings_file")
        if not path:
            return
        roles: dict[str, float] = {}
        for row in self._rows:
            roles[row["role"]] = roles.get(row["role"], 0.0) + row["seconds"]
        report = {
            "seconds": round(total, 3),
            "stages": [
                {"name": stage.name, "seconds": round(stage.seconds, 3), "tasks": stage.tasks}
                for stage in self._stages
            ],
            "roles": {role: round(seconds, 3) for role, seconds in sorted(roles.items())},
            "tasks_per_host": dict(sorted(self._host_tasks.items())),
            "tasks": self._rows,
        }
        with open(path, "w", encoding="utf-8") as handle:
            json.dump(report, handle, indent=1)
