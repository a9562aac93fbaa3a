# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What host_service does, and what it refuses, from what systemd runs and what is wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._host import service_apply, unit
from ansible_collections.mlops.onprem.plugins.module_utils._host.errors import HostError
from ansible_collections.mlops.onprem.plugins.module_utils._host.inputs import Planned, fingerprint
from ansible_collections.mlops.onprem.plugins.module_utils._host.ledger import Ledger
from ansible_collections.mlops.onprem.plugins.module_utils._host.service_plan import (
    RELOAD,
    SLICE_PATH,
    Before,
    WriteUnit,
    noted,
    plan,
    put_back,
    unsteady,
)
from ansible_collections.mlops.onprem.plugins.module_utils._host.steps import Run

SERVICE = unit.Service("mlops-x", command=("/bin/x",), user="mlops-x")
RELOADS = unit.Service(
    "mlops-x", command=("/bin/x",), user="mlops-x", settings={"Service": {"ExecReload": "/bin/r"}}
)
DROPIN = unit.Service("packaged", dropin=True)
NAME = "mlops-x.service"
OURS = Ledger().claim("first", "unit", NAME, path=SERVICE.path)
INPUTS = unit.Inputs("r1", "l1", restart_changed=50.0, reload_changed=50.0)
UP = unit.Running(active=True, enabled=True, invocation="i1", started=100.0)


def before(service: unit.Service = SERVICE, **changes: Any) -> Before:
    """The service runs as wanted, except for the changes."""
    texts = {SLICE_PATH: unit.SLICE_TEXT, service.path: unit.render(service)}
    return Before(**{"running": UP, "texts": texts, "inputs": INPUTS, "occupied": True, **changes})


def said(host: Before, service: unit.Service = SERVICE, ledger: Ledger = OURS) -> list[str]:
    return [step.said for step in plan(host, service, ledger, "first").steps if step.said]


def test_a_service_that_runs_as_wanted_is_left_alone() -> None:
    done = plan(before(), SERVICE, OURS, "first")
    assert done.action == "nothing"
    assert not any(step.act or step.said for step in done.steps)


def test_a_new_service_is_recorded_before_its_unit_is_written_enabled_and_started() -> None:
    host = Before(inputs=INPUTS)
    done = plan(host, SERVICE, Ledger(), "first")
    kinds = [type(step.act) for step in done.steps]
    assert kinds == [WriteUnit, WriteUnit, Run, Run, type(None)]
    first, second, reload, enable, _start = done.steps
    assert first.ledger.names("unit") == {"mlops.slice"}
    assert second.ledger.names("unit") == {"mlops.slice", NAME}
    assert reload.act == RELOAD
    thing = enable.ledger.get("unit", NAME)
    assert thing is not None
    assert thing.data == {
        "path": SERVICE.path,
        "unit": NAME,
        "dropin": False,
        "enabled": True,
    }
    assert [step.said for step in done.steps if step.said] == [
        f"{SLICE_PATH}: created",
        f"{SERVICE.path}: created",
        f"{NAME}: enabled",
        f"{NAME}: start",
    ]
    assert done.action == "start"


RECORDED = noted(OURS, "first", NAME, unit.Inputs("r1", "l1"), "i1")


@pytest.mark.parametrize(
    ("service", "ledger", "changes", "action"),
    [
        (SERVICE, RECORDED, {}, "nothing"),
        (SERVICE, RECORDED, {"running": unit.Running(enabled=True)}, "start"),
        (SERVICE, RECORDED, {"inputs": unit.Inputs("r2", "l1")}, "restart"),
        (SERVICE, RECORDED, {"inputs": unit.Inputs("r1", "l2")}, "restart"),
        (RELOADS, RECORDED, {"inputs": unit.Inputs("r1", "l2")}, "reload"),
        (RELOADS, RECORDED, {"inputs": unit.Inputs("r2", "l2")}, "restart"),
        # started by itself, after a crash: only what changed since then counts
        (SERVICE, OURS, {"inputs": unit.Inputs("r9", "l9", 99.0, 99.0)}, "nothing"),
        (SERVICE, OURS, {"inputs": unit.Inputs("r9", "l9", 100.0, 99.0)}, "restart"),
        (RELOADS, OURS, {"inputs": unit.Inputs("r9", "l9", 99.0, 100.0)}, "reload"),
    ],
)
def test_the_process_follows_its_inputs_whoever_changed_them(
    service: unit.Service, ledger: Ledger, changes: dict[str, Any], action: str
) -> None:
    done = plan(before(service, **changes), service, ledger, "first")
    assert done.action == action
    told = [step.said for step in done.steps if step.said]
    assert told == ([] if action == "nothing" else [f"{NAME}: {action}"])


@pytest.mark.parametrize("trial", [True, False])
def test_a_changed_unit_is_written_and_read_again_in_a_trial_as_in_earnest(trial: bool) -> None:
    texts = {SLICE_PATH: unit.SLICE_TEXT, SERVICE.path: "old\n"}
    host = before(texts=texts, inputs=unit.Inputs("r2", "l1"))
    done = plan(host, SERVICE, RECORDED, "first", trial)
    assert [step.said for step in done.steps if step.said] == [
        f"{SERVICE.path}: content",
        f"{NAME}: restart",
    ]
    assert RELOAD in [step.act for step in done.steps]
    (diff,) = [step.diff for step in done.steps if step.diff]
    assert (diff["before"], diff["after"]) == ("old\n", unit.render(SERVICE))


def test_a_unit_that_is_newer_than_what_systemd_read_is_read_again() -> None:
    stale = unit.Running(True, True, True, "i1", 100.0)
    assert RELOAD in [s.act for s in plan(before(running=stale), SERVICE, OURS, "first").steps]


@pytest.mark.parametrize(
    ("state", "enables"), [("disabled", True), ("static", False), ("generated", False)]
)
def test_only_a_unit_that_can_be_enabled_is(state: str, enables: bool) -> None:
    host = before(
        running=unit.Running(True, False, False, "i1", 100.0), shown={"UnitFileState": state}
    )
    assert said(host) == ([f"{NAME}: enabled"] if enables else [])


def test_a_second_role_shares_the_service() -> None:
    done = plan(before(), SERVICE, OURS, "second")
    thing = done.steps[-1].ledger.get("unit", NAME)
    assert thing is not None
    assert thing.owners == ("first", "second")


def test_a_packaged_unit_gets_a_drop_in_under_its_own_name() -> None:
    done = plan(Before(shown={"FragmentPath": "/usr/lib/x"}), DROPIN, Ledger(), "first")
    thing = done.steps[-1].ledger.get("unit", "packaged.service")
    assert thing is not None
    assert thing.data["path"] == "/etc/systemd/system/packaged.service.d/mlops.conf"


@pytest.mark.parametrize(
    ("changes", "service", "ledger", "sentence"),
    [
        (
            {"shown": {"FragmentPath": "/usr/lib/x"}},
            SERVICE,
            Ledger(),
            r"^A unit mlops-x.service exists already \(/usr/lib/x\) and was not written by the",
        ),
        ({}, SERVICE, Ledger(), r"exists already \(/etc/systemd/system/mlops-x.service\)"),
        (
            {"shown": {"LoadState": "masked"}},
            SERVICE,
            OURS,
            "is masked on this host; run: systemctl unmask mlops-x.service",
        ),
        ({"shown": {"LoadState": "masked"}}, DROPIN, Ledger(), "is masked on this host"),
        ({"missing": "It shall run /x, which is not."}, SERVICE, OURS, "^It shall run /x"),
        ({}, unit.Service("mlops-x", user="x"), OURS, "needs a command"),
        ({}, unit.Service("mlops-x", command=("/x",)), OURS, "needs a user to run as"),
    ],
)
def test_what_is_refused(
    changes: dict[str, Any], service: unit.Service, ledger: Ledger, sentence: str
) -> None:
    with pytest.raises(HostError, match=sentence):
        plan(before(**changes), service, ledger, "first")


def test_what_the_start_needs_may_come_later_in_a_trial() -> None:
    assert plan(before(missing="x"), SERVICE, OURS, "first", trial=True).action == "nothing"


def test_what_is_noted_makes_the_next_run_do_nothing() -> None:
    inputs = unit.Inputs("r7", "l7", 500.0, 500.0)
    ledger = noted(OURS, "first", NAME, inputs, "i1", {"/a": {"content": ""}})
    assert plan(before(inputs=inputs), SERVICE, ledger, "first").action == "nothing"
    thing = ledger.get("unit", NAME)
    assert thing is not None
    assert thing.data["accepted"] == {"/a": {"content": ""}}
    assert thing.data["path"] == SERVICE.path


def test_what_was_accepted_comes_back_and_what_came_since_goes() -> None:
    accepted = {"/same": 1, "/changed": 1, "/lost": 1}
    present = {"/same": 1, "/changed": 2, "/new": 1}
    assert put_back(accepted, present) == (["/new"], {"/changed": 1, "/lost": 1})


@pytest.mark.parametrize(
    ("now", "shown", "wrong"),
    [
        (UP, {"ActiveState": "active", "SubState": "running"}, ""),
        (unit.Running(invocation="i1"), {"ActiveState": "activating", "SubState": "start"}, ""),
        (unit.Running(True, invocation="i2"), {}, "x ends right after its start"),
        (UP, {"SubState": "auto-restart"}, "x ends right after its start"),
        (
            unit.Running(invocation="i1"),
            {"ActiveState": "failed", "SubState": "failed"},
            "x does not stay up: it is failed (failed)",
        ),
    ],
)
def test_a_unit_has_to_stay_up(now: unit.Running, shown: dict[str, str], wrong: str) -> None:
    assert unsteady("x", UP, now, shown) == wrong


def test_the_inputs_are_known_before_the_unit_is_written(tmp_path: Path) -> None:
    path = tmp_path / "x.service"
    names = [str(path), str(tmp_path / "none")]
    foreseen, when = fingerprint(names, Planned({str(path): b"new"}, 7.0))
    assert when == 7.0
    path.write_text("old")
    assert fingerprint(names)[0] != foreseen
    assert fingerprint(names, Planned({str(path): b"new"}, 7.0))[0] == foreseen
    path.write_text("new")
    assert fingerprint(names)[0] == foreseen


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"command": ("/bin/sh",), "user": "root"}, ""),
        ({"command": ("/no/such",)}, "x.service shall run /no/such, which is not an executable"),
        ({"writable": ("/no/such",)}, "x.service shall write to /no/such, which does not exist."),
        ({"environment_file": "/no/such"}, "x.service shall read /no/such, which does not exist."),
        ({"user": "nobody-such"}, "x.service shall run as nobody-such, which is not a user of"),
    ],
)
def test_what_a_start_needs_is_looked_for_first(changes: dict[str, Any], sentence: str) -> None:
    missing = service_apply.missing(unit.Service("x", **changes))
    assert missing.startswith(sentence)
    assert bool(missing) is bool(sentence)


TIMED = unit.Service("mlops-t", command=("/bin/t",), user="root", timer={"OnBootSec": 10})
JOB, TIMER = "/etc/systemd/system/mlops-t.service", "/etc/systemd/system/mlops-t.timer"


def timed(**changes: Any) -> Before:
    texts = {SLICE_PATH: unit.SLICE_TEXT, **TIMED.texts}
    return Before(**{"running": UP, "texts": texts, "inputs": INPUTS, "occupied": True, **changes})


def test_a_timer_is_what_is_enabled_and_its_service_ends_by_itself() -> None:
    assert (TIMED.unit, TIMED.job, list(TIMED.texts)) == (
        "mlops-t.timer",
        "mlops-t.service",
        [JOB, TIMER],
    )
    job, timer = TIMED.texts[JOB], TIMED.texts[TIMER]
    assert "Type=oneshot" in job
    assert "Restart=" not in job
    assert "[Install]" not in job
    assert "[Timer]\nOnBootSec=10" in timer
    assert "WantedBy=timers.target" in timer


def test_both_units_of_a_timer_are_recorded_and_go_together() -> None:
    done = plan(Before(inputs=INPUTS), TIMED, Ledger(), "first")
    written = [step.act.path for step in done.steps if isinstance(step.act, WriteUnit)]
    assert written == [SLICE_PATH, JOB, TIMER]
    ledger = done.steps[-1].ledger
    assert ledger.has("unit", "mlops-t.service")
    assert ledger.has("unit", "mlops-t.timer")
    # Before the first of them is written.
    (first,) = [
        step for step in done.steps if isinstance(step.act, WriteUnit) and step.act.path == JOB
    ]
    assert first.ledger.has("unit", "mlops-t.service")
    assert done.action == "start"


def test_a_timer_whose_service_changes_is_made_known_to_systemd() -> None:
    ledger = Ledger().claim("first", "unit", TIMED.unit, path=TIMER)
    assert plan(timed(), TIMED, ledger, "first").action == "nothing"
    texts = {SLICE_PATH: unit.SLICE_TEXT, **TIMED.texts, JOB: "older"}
    done = plan(timed(texts=texts), TIMED, ledger, "first")
    assert [step.act for step in done.steps if step.act is not None][-1] == RELOAD


def test_a_packaged_service_has_no_timer_of_ours() -> None:
    with pytest.raises(HostError, match="is packaged and cannot have a timer"):
        unit.render(unit.Service("packaged", dropin=True, timer={"OnBootSec": 1}))
