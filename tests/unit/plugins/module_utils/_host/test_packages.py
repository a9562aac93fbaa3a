# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""A transaction's packages and traces are known exactly; what others need stays."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._host import packages
from ansible_collections.mlops.onprem.plugins.module_utils._host.errors import HostError
from ansible_collections.mlops.onprem.plugins.module_utils._host.ledger import Ledger

SIMULATION = """\
Reading package lists...
The following NEW packages will be installed:
  nginx nginx-common
Remv oldthing [1.0]
Inst libssl3t64 [3.5.1-1] (3.5.4-1 Debian-Security:13/stable-security [amd64])
Inst nginx-common (1.26.3-3+deb13u1 Debian:13.1/stable [all])
Inst nginx:amd64 (1.26.3-3+deb13u1 Debian:13.1/stable [amd64])
Conf nginx (1.26.3-3+deb13u1 Debian:13.1/stable [amd64])
"""

STATUS = """\
Package: base
Essential: yes
Status: install ok installed
Depends: libc

Package: libc
Status: install ok installed

Package: tool
Status: install ok installed
Depends: libfoo (>= 1), libbar | libbaz,
 mail-agent

Package: libfoo
Status: install ok installed

Package: libbar
Status: install ok installed

Package: postfix
Status: install ok installed
Provides: mail-agent (= 1)

Package: old
Status: deinstall ok config-files
Depends: libfoo
"""


def test_a_simulation_tells_new_upgraded_and_removed_apart() -> None:
    assert packages.simulated(SIMULATION) == packages.Simulated(
        new=("nginx-common", "nginx"), upgraded=("libssl3t64",), removed=("oldthing",)
    )


@pytest.mark.parametrize(
    ("leaving", "needed"),
    [
        ({"tool", "libfoo", "libbar", "postfix"}, {}),
        ({"libfoo"}, {"libfoo": "tool"}),
        ({"libbar"}, {"libbar": "tool"}),
        ({"postfix"}, {"postfix": "tool"}),
        ({"tool"}, {}),
        ({"base", "libc"}, {}),
        ({"libc"}, {"libc": "base"}),
        ({"unknown"}, {}),
    ],
)
def test_what_something_else_depends_on_stays(leaving: set[str], needed: dict[str, str]) -> None:
    assert packages.still_needed(packages.status(STATUS), leaving) == needed


def test_a_package_that_stays_keeps_what_it_depends_on() -> None:
    text = STATUS + "\nPackage: app\nStatus: install ok installed\nDepends: tool\n"
    needed = packages.still_needed(packages.status(text), {"tool", "libfoo"})
    assert needed == {"tool": "app", "libfoo": "tool"}


def test_removed_packages_need_nothing() -> None:
    assert "old" not in packages.status(STATUS)


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("E: Unable to locate package nginx", True),
        ("E: Package 'nginx' has no installation candidate", True),
        ("Err:1 http://deb nginx 404  Not Found [IP: 1.2.3.4]", True),
        ("E: You don't have enough free space", False),
    ],
)
def test_when_the_lists_have_to_be_refreshed(said: str, answer: bool) -> None:
    assert packages.needs_lists(said) is answer


def test_only_services_that_were_there_may_start(tmp_path: Path) -> None:
    script = tmp_path / "policy-rc.d"
    script.write_text(packages.policy(["ssh.service", "odd'name.service", "cron.service"]))
    for name, answer in [("ssh", 0), ("cron.service", 0), ("nginx", 101), ("odd'name", 101)]:
        assert (
            subprocess.run(["/bin/sh", str(script), name, "start"], check=False).returncode
            == answer
        )


def test_without_services_nothing_may_start(tmp_path: Path) -> None:
    script = tmp_path / "policy-rc.d"
    script.write_text(packages.policy([]))
    assert subprocess.run(["/bin/sh", str(script), "ssh", "start"], check=False).returncode == 101


def test_traces_are_new_paths_of_the_packages_only() -> None:
    found = packages.traces(
        new_packages=["prometheus-node-exporter"],
        new_users=["prometheus"],
        listed=["/var/lib/prometheus", "/etc/init.d", "/usr/share/prometheus", "/usr/share/vim"],
        before=["/etc/init.d", "/var/lib/company"],
        now=[
            "/etc/init.d",
            "/var/lib/company",
            "/var/lib/company/written-meanwhile",
            "/var/lib/company/prometheus",
            "/var/lib/prometheus",
            "/var/lib/prometheus/node-exporter",
            "/usr/share/vim",
            "/usr/share/prometheus",
            "/etc/cron.d/company",
            "/etc/default/prometheus-node-exporter",
        ],
    )
    assert found == (
        "/etc/default/prometheus-node-exporter",
        "/usr/share/prometheus",
        "/var/lib/company/prometheus",
        "/var/lib/prometheus",
    )


def test_what_grows_in_a_directory_of_before_is_not_a_trace() -> None:
    assert (
        packages.traces(
            new_packages=["prometheus-node-exporter"],
            new_users=[],
            listed=[],
            before=["/var/lib/prometheus"],
            now=["/var/lib/prometheus", "/var/lib/prometheus/01ARZ3"],
        )
        == ()
    )


def test_units_of_packages_are_named_as_systemctl_takes_them() -> None:
    found = packages.units_of(
        [
            "/usr/lib/systemd/system/nvmf-autoconnect.service",
            "/lib/systemd/system/xfs_scrub_all.timer",
            "/usr/lib/systemd/system/ceph-osd@.service",
            "/usr/lib/systemd/system/ceph.target.wants/ceph-crash.service",
            "/usr/lib/systemd/user/own.service",
            "/usr/share/doc/a.service",
        ]
    )
    assert found == (
        "ceph-osd@*.service",
        "nvmf-autoconnect.service",
        r"system-ceph\x2dosd.slice",
        "xfs_scrub_all.timer",
    )


# What host_packages decides


@pytest.mark.parametrize(
    ("names", "known", "missing"),
    [
        (["a", "b"], {"a": "installed", "b": "installed"}, ()),
        (["a", "b", "a"], {"b": "installed"}, ("a",)),
        (["a"], {"a": "config-files"}, ("a",)),
        (["a"], {"a": "half-configured"}, ("a",)),
        (["b", "a"], {}, ("b", "a")),
        ([], {}, ()),
    ],
)
def test_what_is_not_wholly_installed_is_missing(
    names: list[str], known: dict[str, str], missing: tuple[str, ...]
) -> None:
    assert packages.lacking(names, known) == missing


@pytest.mark.parametrize(
    ("recommends", "words"),
    [
        (False, ("install", "--no-install-recommends", "--", "a", "-b")),
        (True, ("install", "--", "a", "-b")),
    ],
)
def test_recommends_come_only_if_asked_and_no_name_is_an_option(
    recommends: bool, words: tuple[str, ...]
) -> None:
    assert packages.install_words(("a", "-b"), recommends) == words


def test_an_installation_that_would_remove_something_is_refused() -> None:
    packages.refuse_removals(packages.Simulated(("a",), ("b",), ()), ["a"])
    with pytest.raises(HostError, match=r"^Installing a would remove company mail from this host"):
        packages.refuse_removals(packages.Simulated(("a",), (), ("company", "mail")), ["a"])


def test_only_what_is_ours_is_shared_with_a_second_role() -> None:
    ours = Ledger().claim("first", "package", "a")
    both = packages.shared(ours, "second", ["a", "of-the-company"])
    assert [(thing.name, thing.owners) for thing in both] == [("a", ("first", "second"))]
    assert packages.shared(Ledger(), "second", ["a"]) == Ledger()


def test_what_a_refreshed_list_brings_is_recorded_beside_what_was() -> None:
    ours = packages.claimed(Ledger().claim("first", "package", "a"), "second", ["b", "a"])
    assert {thing.name: thing.owners for thing in ours} == {
        "a": ("first", "second"),
        "b": ("second",),
    }


NGINX = "/usr/lib/systemd/system/nginx.service"
EXPORTER = "/usr/lib/systemd/system/prometheus-nginx-exporter.service"
RESTED = {"UnitFileState": "disabled", "ActiveState": "inactive"}
FRESH = {"UnitFileState": "enabled", "ActiveState": "inactive"}
RUNS = {"UnitFileState": "enabled", "ActiveState": "active"}


def ours(*names: str) -> Ledger:
    return packages.claimed(Ledger(), "r", names)


@pytest.mark.parametrize(
    ("state", "wanted"),
    [
        ({"UnitFileState": "enabled", "ActiveState": "inactive"}, True),
        ({"UnitFileState": "enabled-runtime", "ActiveState": "inactive"}, True),
        ({"UnitFileState": "disabled", "ActiveState": "active"}, True),
        ({"UnitFileState": "static", "ActiveState": "activating"}, True),
        ({"UnitFileState": "disabled", "ActiveState": "inactive"}, False),
        ({"UnitFileState": "", "ActiveState": "failed"}, False),
        ({}, False),
    ],
)
def test_only_a_unit_that_runs_or_would_is_disabled(state: dict[str, str], wanted: bool) -> None:
    shown = {"nginx.service": {**state, "FragmentPath": NGINX}}
    ledger = packages.to_rest(ours("nginx"), "r", shown, {NGINX: "nginx"}, {"nginx"})
    assert packages.to_disable(ledger, shown) == (["nginx.service"] if wanted else [])


@pytest.mark.parametrize(
    ("why", "path", "holders"),
    [
        ("the company's package", NGINX, {EXPORTER: "prometheus-nginx-exporter"}),
        ("the company's own unit", "/etc/systemd/system/nginx.service", {NGINX: "nginx"}),
        ("a unit that nobody has", "", {NGINX: "nginx"}),
        ("a unit that systemd made", "/run/systemd/generator.late/nginx.service", {}),
    ],
)
def test_a_unit_of_somebody_else_is_left_alone(
    why: str, path: str, holders: dict[str, str]
) -> None:
    shown = {"nginx.service": {**RUNS, "FragmentPath": path}}
    brought = {"prometheus-nginx-exporter", "nginx"}
    ledger = packages.to_rest(ours(*brought), "r", shown, holders, brought)
    assert packages.to_disable(ledger, shown) == [], why
    assert not ledger.names("rested")


def test_one_list_of_packages_is_judged_unit_by_unit() -> None:
    shown = {
        "nginx.service": {**RUNS, "FragmentPath": NGINX},
        "prometheus-nginx-exporter.service": {**FRESH, "FragmentPath": EXPORTER},
    }
    name = "prometheus-nginx-exporter"
    ledger = packages.to_rest(ours(name), "r", shown, {EXPORTER: name}, {name})
    assert packages.to_disable(ledger, shown) == ["prometheus-nginx-exporter.service"]


def test_how_a_unit_was_found_is_noted_before_it_is_stopped() -> None:
    shown = {"nginx.service": {**FRESH, "FragmentPath": NGINX}}
    ledger = packages.to_rest(ours("nginx"), "r", shown, {NGINX: "nginx"}, {"nginx"})
    thing = ledger.get("rested", "nginx.service")
    assert thing is not None
    assert thing.data == {
        "package": "nginx",
        "before": {"enabled": True, "active": False},
        "done": False,
    }
    assert packages.unrested(ledger, shown) == ["nginx.service"]


def test_a_unit_that_was_used_before_its_package_came_is_left_alone() -> None:
    shown = {"nginx.service": {**RUNS, "FragmentPath": NGINX}}
    ledger = ours("nginx")
    for _run in (1, 2):
        used = ["nginx.service"]
        ledger = packages.to_rest(ledger, "r", shown, {NGINX: "nginx"}, {"nginx"}, used)
        assert packages.to_disable(ledger, shown) == []


def test_a_unit_rests_once_and_whoever_enables_it_later_keeps_it() -> None:
    shown = {"nginx.service": {**FRESH, "FragmentPath": NGINX}}
    ledger = packages.to_rest(ours("nginx"), "r", shown, {NGINX: "nginx"}, {"nginx"})
    ledger = ledger.claim("r", "rested", "nginx.service", done=True)
    shown = {"nginx.service": {**RUNS, "FragmentPath": NGINX}}
    ledger = packages.to_rest(ledger, "second", shown, {NGINX: "nginx"}, ())
    assert packages.to_disable(ledger, shown) == []
    thing = ledger.get("rested", "nginx.service")
    assert thing is not None
    assert thing.owners == ("r", "second")


@pytest.mark.parametrize("state", [RUNS, RESTED])
def test_a_ledger_of_release_0_2_0_is_read_as_one_whose_units_have_rested(
    state: dict[str, str],
) -> None:
    shown = {"nginx.service": {**state, "FragmentPath": NGINX}}
    ledger = packages.to_rest(ours("nginx"), "r", shown, {NGINX: "nginx"}, ())
    assert packages.to_disable(ledger, shown) == []
    thing = ledger.get("rested", "nginx.service")
    assert thing is not None
    assert thing.data["before"] == {}


@pytest.mark.parametrize(
    ("shown", "path"),
    [
        ({"FragmentPath": "/lib/systemd/system/x.service"}, "/usr/lib/systemd/system/x.service"),
        ({"FragmentPath": "/run/systemd/generator.late/x.service", "SourcePath": "/etc/init.d/x"},
         "/etc/init.d/x"),
        ({}, ""),
    ],
)  # fmt: skip
def test_the_file_of_a_unit(shown: dict[str, str], path: str) -> None:
    assert packages.unit_file(shown) == path


def test_what_is_held_by_somebody_else_is_not_ours_and_what_is_not_wanted_any_more_goes() -> None:
    ledger = Ledger().claim("gpu", "hold", "old").claim("gpu", "hold", "kept")
    new, gone = packages.to_hold(ledger, "gpu", ["kept", "theirs", "new"], {"kept", "theirs"})
    assert (new, gone) == (("new",), ("old",))
    both = ledger.claim("other", "hold", "old")
    assert packages.to_hold(both, "gpu", [], {"old", "kept"}) == ((), ("kept",))


def test_an_attempt_that_went_well_becomes_the_roles_own() -> None:
    ledger = Ledger().claim("gpu_attempt", "package", "a").claim("other", "package", "a")
    ledger = packages.attempted(ledger.claim("gpu_attempt", "trace", "/x", files=[]), "gpu")
    assert ledger.of("gpu_attempt") == ()
    assert [(thing.name, thing.owners) for thing in ledger.of("gpu")] == [
        ("a", ("gpu", "other")),
        ("/x", ("gpu",)),
    ]


def test_the_end_of_a_log_has_its_errors_and_its_last_lines() -> None:
    log = "\n".join(["make", "x.c:1: error: too few", *(f"line {n}" for n in range(20)), "Error 2"])
    end = packages.end_of(log, 3).splitlines()
    assert end == ["x.c:1: error: too few", "line 18", "line 19", "Error 2"]
    assert packages.end_of("") == ""


def test_an_upgrade_may_change_what_is_held_and_the_way_back_may_go_down() -> None:
    assert packages.install_words(["a"], False, True) == (
        "install",
        "--no-install-recommends",
        "--allow-change-held-packages",
        "--",
        "a",
    )
    assert packages.back_words({"b": "1", "a": "2"})[-3:] == ("--", "a=2", "b=1")
