# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A task counts as settled only if its module would change nothing, note nothing and not wait."""

from __future__ import annotations

import base64
import getpass
import grp
import os
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.mlops.onprem.plugins.module_utils._host import (
    app,
    app_apply,
    apt,
    args,
    files,
    files_apply,
    files_plan,
    packages,
    service_apply,
    settled,
    snapshot,
    unit,
)
from ansible_collections.mlops.onprem.plugins.module_utils._host.ledger import Ledger
from ansible_collections.mlops.onprem.plugins.module_utils._host.service_plan import (
    SLICE_PATH,
    Before,
    noted,
    plan,
)

ME = {"owner": getpass.getuser(), "group": grp.getgrgid(os.getgid()).gr_name}


def params(module: str, **given: Any) -> dict[str, Any]:
    checked = ArgumentSpecValidator(dict(args.MODULES[module])).validate({"role": "r", **given})
    assert not checked.error_messages, checked.error_messages
    return dict(checked.validated_parameters)


def answer(module: str, given: dict[str, Any], ledger: Ledger) -> Any:
    return settled.answer(module, given, ledger, bytes.upper)


# -- files ----------------------------------------------------------------------------------


@pytest.fixture
def placed(tmp_path: Path) -> tuple[dict[str, Any], Ledger, Path]:
    """A directory with a file, as a task of the role r would have left it."""
    folder, file = tmp_path / "folder", tmp_path / "folder" / "file"
    given = params(
        "host_files",
        directories=[{"path": str(folder), **ME}],
        # In capitals: what stands for its content.
        files=[{"path": str(file), "payload": base64.b64encode(b"TEXT").decode(), **ME}],
    )
    wanted = files.wanted_of(given)
    steps = files_plan.plan_and_owners(files_apply.read(wanted), wanted, Ledger(), "r")[0]
    folder.mkdir()
    folder.chmod(0o755)
    file.write_bytes(b"text")
    file.chmod(0o644)
    return given, steps[-1].ledger, file


def test_files_that_are_in_their_place_are_settled(
    placed: tuple[dict[str, Any], Ledger, Path],
) -> None:
    given, ledger, _file = placed
    found = {"changed": False, "changes": [], "diff": [], "owners": ["r"]}
    assert answer("host_files", given, ledger) == found
    assert answer("host_files", given, ledger.claim("q", "file", str(_file))) == found


@pytest.mark.parametrize("drift", ["content", "mode", "gone", "directory mode", "a link"])
def test_files_that_differ_are_not_settled(
    placed: tuple[dict[str, Any], Ledger, Path], drift: str
) -> None:
    given, ledger, file = placed
    if drift == "content":
        file.write_bytes(b"texT")  # the same in capitals
        assert answer("host_files", given, ledger)
        file.write_bytes(b"test")
    elif drift == "mode":
        file.chmod(0o600)
    elif drift == "directory mode":
        file.parent.chmod(0o700)
    else:
        file.unlink()
        if drift == "a link":
            file.symlink_to("/etc/hostname")
    assert answer("host_files", given, ledger) is None


def test_files_of_which_the_ledger_would_learn_something_are_not_settled(
    placed: tuple[dict[str, Any], Ledger, Path],
) -> None:
    given, ledger, file = placed
    assert answer("host_files", {**given, "role": "q"}, ledger) is None
    # The company's own, as it is wanted: nothing is noted of it.
    assert answer("host_files", given, Ledger())["owners"] is None
    more = {**given, "absent": [str(file.parent / "other")]}
    assert answer("host_files", more, ledger)
    (file.parent / "other").touch()
    assert answer("host_files", more, ledger.claim("r", "file", str(file.parent / "other"))) is None


# -- packages -------------------------------------------------------------------------------


@pytest.fixture
def dpkg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What dpkg knows; the settings of apt keep what r has had installed."""
    known = {"nginx": "installed", "curl": "installed"}
    monkeypatch.setattr(apt, "states", lambda names: {n: known[n] for n in names if n in known})
    monkeypatch.setattr(apt, "interrupted", lambda: False)
    monkeypatch.setattr(packages, "wanted_file", lambda role: str(tmp_path / role))
    (tmp_path / "r").write_text(packages.wanted_words(INSTALLED, "r"))
    return known


INSTALLED = Ledger().claim("r", "package", "nginx", auto=True)


def test_packages_that_are_installed_are_settled(dpkg: dict[str, str]) -> None:
    found = answer("host_packages", params("host_packages", name=["nginx", "curl"]), INSTALLED)
    assert found["changed"] is False
    assert found["owners"] == ["r"]
    # Nothing of it is ours: the company had it.
    found = answer("host_packages", params("host_packages", name=["curl"]), Ledger())
    assert (found["changed"], found["owners"]) == (False, None)


@pytest.mark.parametrize(
    ("given", "ledger"),
    [
        ({"name": ["nginx", "lacking"]}, INSTALLED),
        ({"name": ["nginx"], "hold": []}, INSTALLED),
        ({"name": ["nginx"], "undo": True, "upgrade": True}, INSTALLED),
        ({"name": ["nginx"], "role": "q"}, INSTALLED),
        ({"name": ["nginx"]}, INSTALLED.claim("r", "package", "more", auto=True)),
        ({"name": ["nginx"]}, Ledger().claim("r", "package", "nginx")),
        ({"name": ["nginx"]}, Ledger(INSTALLED.things, {"owner": "r", "packages": []})),
    ],
)
def test_packages_that_need_anything_are_not_settled(
    dpkg: dict[str, str], given: dict[str, Any], ledger: Ledger
) -> None:
    assert answer("host_packages", params("host_packages", **given), ledger) is None


def test_a_killed_installation_is_not_settled(
    dpkg: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apt, "interrupted", lambda: True)
    assert answer("host_packages", params("host_packages", name=["nginx"]), INSTALLED) is None


def test_packages_whose_settings_of_apt_are_gone_are_not_settled(
    dpkg: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "r").unlink()
    assert answer("host_packages", params("host_packages", name=["nginx"]), INSTALLED) is None


@pytest.mark.parametrize(("done", "still"), [(True, True), (False, False)])
def test_a_daemon_that_was_never_put_to_rest_is_not_settled(
    dpkg: dict[str, str], monkeypatch: pytest.MonkeyPatch, done: bool, still: bool
) -> None:
    path = "/usr/lib/systemd/system/nginx.service"
    shown = {"nginx.service": {"FragmentPath": path, "ActiveState": "inactive"}}
    monkeypatch.setattr(apt, "unit_states", lambda units: {u: shown[u] for u in units})
    monkeypatch.setattr(snapshot, "holders", lambda _names: {path: "nginx"})
    given = params("host_packages", name=["nginx"], disable_units=["nginx.service"])
    assert answer("host_packages", given, INSTALLED) is None  # not even noted
    ledger = INSTALLED.claim("r", "rested", "nginx.service", package="nginx", before={}, done=done)
    assert (answer("host_packages", given, ledger) is not None) is still


# -- a Python application -------------------------------------------------------------------


def test_an_application_is_settled_only_if_it_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    target = app.Target("3.13", "x86_64", "glibc 2.41")
    monkeypatch.setattr(app_apply, "target_of", lambda _python: target)
    monkeypatch.setattr(app_apply, "claimed", lambda ledger, _role, _wanted: ledger)
    there: dict[str, Any] = {"installed": True, "damaged": "", "misfits": {}}
    monkeypatch.setattr(app_apply, "installed", lambda _wanted: there["installed"])
    monkeypatch.setattr(app_apply, "damaged", lambda _wanted: there["damaged"])
    monkeypatch.setattr(app_apply, "misfits", lambda _wanted, _ledger: there["misfits"])
    given = params("host_python_app", name="tool", requirements="r.txt", digests={"any": "0" * 64})
    found = answer("host_python_app", given, Ledger())
    assert (found["changed"], found["archive_wanted"]) == (False, False)
    assert found["directory"].endswith("/tool")
    for name, wrong in (("installed", False), ("damaged", "gone"), ("misfits", {"/x": 0o755})):
        good, there[name] = there[name], wrong
        assert answer("host_python_app", given, Ledger()) is None, name
        there[name] = good
    monkeypatch.setattr(
        app_apply, "claimed", lambda ledger, role, _wanted: ledger.claim(role, "app", "tool")
    )
    assert answer("host_python_app", given, Ledger()) is None


# -- services -------------------------------------------------------------------------------

SERVICE = params("host_service", name="mlops-x", command=["/bin/sh"], user="root")
WANTED = unit.service_of(SERVICE)
UP = unit.Running(active=True, enabled=True, invocation="i1", started=100.0)
INPUTS = unit.Inputs("r1", "l1")


def host(**changes: Any) -> Before:
    texts = {SLICE_PATH: unit.SLICE_TEXT, **WANTED.texts}
    shown = {"ActiveState": "active", "SubState": "running"}
    return Before(**{"running": UP, "shown": shown, "texts": texts, "inputs": INPUTS, **changes})


def running(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    monkeypatch.setattr(service_apply, "read", lambda _service, _follows: host(**changes))


def ledger_of(role: str = "r") -> Ledger:
    """As it is once the service was started with these inputs."""
    steps = plan(
        host(running=unit.Running()), WANTED, Ledger().claim(role, "unit", "mlops-x.service"), role
    ).steps
    return noted(steps[-1].ledger, role, "mlops-x.service", INPUTS, "i1")


def test_a_service_that_runs_as_wanted_is_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    running(monkeypatch)
    found = answer("host_service", SERVICE, ledger_of())
    assert found == {
        "changed": False,
        "action": "nothing",
        "changes": [],
        "diff": [],
        "waited": 0.0,
        "owners": ["r"],
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"running": unit.Running(active=False, enabled=True, invocation="i1", started=100.0)},
        {"running": unit.Running(active=True, enabled=False, invocation="i1", started=100.0)},
        {
            "running": unit.Running(
                active=True, enabled=True, stale=True, invocation="i1", started=1.0
            )
        },
        {"running": unit.Running(active=True, enabled=True, invocation="i2", started=100.0)},
        {"inputs": unit.Inputs("r2", "l1", restart_changed=200.0)},
        {"inputs": unit.Inputs("r1", "l2", reload_changed=200.0)},
        {"texts": {SLICE_PATH: unit.SLICE_TEXT}},
        {"missing": "/bin/sh is missing."},
        {"shown": {"ActiveState": "active", "SubState": "auto-restart"}},
    ],
)
def test_a_service_that_needs_anything_is_not_settled(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    running(monkeypatch, **changes)
    assert answer("host_service", SERVICE, ledger_of()) is None


def test_a_service_that_another_role_wants_too_is_not_settled_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running(monkeypatch)
    assert answer("host_service", {**SERVICE, "role": "q"}, ledger_of()) is None
    # Where it only follows what others want, it counts for the first of these.
    only = {**SERVICE, "role": "q", "only_if_present": True}
    assert answer("host_service", only, ledger_of())["owners"] == ["r"]
    assert answer("host_service", only, Ledger())["owners"] is None


def test_a_service_that_does_not_answer_is_not_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    running(monkeypatch)
    for word, good in (("true", True), ("false", False)):
        given = {**SERVICE, "health": {"command": [word], "timeout": 1}}
        assert (answer("host_service", given, ledger_of()) is not None) is good


def test_a_service_whose_accepted_files_are_others_is_not_settled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    running(monkeypatch)
    (tmp_path / "a.conf").write_text("new")
    given = {**SERVICE, "restore": [str(tmp_path)]}
    ledger = ledger_of().claim("r", "directory", str(tmp_path), whole=True)
    assert answer("host_service", given, ledger) is None
    follows = service_apply.follows_of(given)
    ledger = service_apply.as_noted(ledger, WANTED, follows, "r", INPUTS, "i1")
    assert answer("host_service", given, ledger)


# -- removals, and everything else ----------------------------------------------------------


def test_a_removal_is_settled_where_nothing_of_the_role_is_left() -> None:
    given = params("host_remove")
    assert answer("host_remove", given, INSTALLED) is None
    assert answer("host_remove", given, Ledger()) == {"changed": False, "removed": [], "kept": []}
    assert answer("host_remove", {**given, "unless": ["/etc/*"]}, Ledger()) is None


def test_nothing_is_said_of_what_would_be_refused_or_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("the company's")
    taken = params("host_files", directories=[{"path": str(tmp_path / "x")}])
    assert answer("host_files", taken, Ledger()) is None
    assert answer("host_certificate", {"owner": "trust"}, Ledger()) is None
