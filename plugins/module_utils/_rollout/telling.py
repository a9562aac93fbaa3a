# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Prometheus is told of rollouts: one page for all models of a site."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .state import State

Row = tuple[str, dict[str, str], float]
HELP = {
    "mlops_rollout_info": "the rollout begun last, by model",
    "mlops_rollout_started_seconds": "when it began, in seconds since the epoch",
    "mlops_rollout_changed_seconds": "when something of it was decided last",
    "mlops_rollout_generation": "how often a controller took over",
    "mlops_rollout_devices": "devices of the rollout by where they are with it",
    "mlops_rollout_ring": "1 for the state that a ring is in",
    "mlops_rollout_gate": "1 for the verdict of a gate over a ring at its last look",
    "mlops_rollout_events_total": "decisions in the journal, over all rollouts of the model",
}


def rows(state: State) -> list[Row]:
    """The samples of one model."""
    if not state.rollout:
        return []
    plan = state.planned()
    model = {"model": plan.model}
    standing = state.outcome or ("PAUSED" if state.paused else state.mode)
    info = {
        "rollout": state.rollout,
        "version": plan.version,
        "digest": plan.digest,
        "state": standing,
    }
    found: list[Row] = [
        ("mlops_rollout_info", {**model, **info}, 1),
        ("mlops_rollout_started_seconds", model, state.started),
        ("mlops_rollout_changed_seconds", model, state.changed),
        ("mlops_rollout_generation", model, state.generation),
    ]
    for name, number in standings(state).items():
        found.append(("mlops_rollout_devices", {**model, "state": name}, number))
    for record in state.records:
        ring = {**model, "ring": record.name}
        found.append(("mlops_rollout_ring", {**ring, "state": record.state}, 1))
        for gate in record.gates:
            labels = {**ring, "gate": gate["name"], "verdict": gate["verdict"]}
            found.append(("mlops_rollout_gate", labels, 1))
    for event in sorted(state.counts):
        found.append(("mlops_rollout_events_total", {**model, "event": event}, state.counts[event]))
    return found


def standings(state: State) -> dict[str, int]:
    """How many devices are where."""
    found = dict.fromkeys(
        ("waiting", "under_way", "committed", "reverted", "deferred", "failed"), 0
    )
    for host in state.hosts.values():
        if host.step == "revert" and host.ok:
            name = "reverted"
        elif host.committed:
            name = "committed"
        elif host.failure:
            name = "failed"
        elif host.deferred:
            name = "deferred"
        else:
            name = "under_way" if host.step else "waiting"
        found[name] += 1
    return found


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def page(found: Iterable[tuple[str, Mapping[str, str], float]]) -> str:
    """The samples in the text format of Prometheus, each name together."""
    by_name: dict[str, list[str]] = {name: [] for name in HELP}
    for name, labels, value in found:
        told = ",".join(f'{key}="{_quoted(str(text))}"' for key, text in labels.items())
        by_name[name].append(f"{name}{{{told}}} {value:.17g}")
    lines = []
    for name, samples in by_name.items():
        if samples:
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += [f"# HELP {name} {HELP[name]}", f"# TYPE {name} {kind}", *samples]
    return "\n".join([*lines, ""])
