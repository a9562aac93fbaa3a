# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What others began to use is seen by general signs, and stays."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._host import (
    packages,
    snapshot,
    used,
    used_apply,
)
from ansible_collections.mlops.onprem.plugins.module_utils._host.ledger import Ledger
from ansible_collections.mlops.onprem.plugins.module_utils._host.packages import Installed

POSTGRESQL = ("postgresql-17", "postgresql-common", "libpq5")
INSTALLED = {
    "nginx": Installed("nginx", (("nginx-common",),)),
    "nginx-common": Installed("nginx-common", ()),
    "prometheus": Installed("prometheus", (("libjs",),)),
    "libjs": Installed("libjs", ()),
}


@pytest.mark.parametrize(
    "path",
    [
        "/etc/nginx/sites-enabled/firma",
        "/etc/postgresql/17/firma/postgresql.conf",
        "/var/lib/postgresql/17/firma/PG_VERSION",
        "/var/lib/ceph/mon/ceph-a/store.db/LOCK",
        "/etc/prometheus/rules/firma.yml",
        "/etc/docker/registry/htpasswd",
        "/var/lib/docker-registry/docker/registry/v2/x",
        "/srv/anything/at-all",
    ],
)
def test_a_file_that_nobody_of_ours_made_is_a_sign(path: str) -> None:
    known = {"/etc/nginx/nginx.conf", "/var/lib/postgresql"}
    assert used.unknown([path, "/etc/nginx/nginx.conf"], known, Ledger(), ()) == [path]


@pytest.mark.parametrize(
    ("why", "path"),
    [
        ("a script made it", "/etc/nginx/sites-enabled/default"),
        ("a script of another version made it", "/etc/postgresql-common/createcluster.conf"),
        ("programs write it", "/var/log/nginx/access.log"),
        ("a socket is there after each start", "/var/run/uuidd/request"),
        ("a lock is there while a program runs", "/var/lock/lvm/P_global"),
        ("whoever makes an identifier writes it", "/var/lib/libuuid/clock.txt"),
        ("a timer writes it", "/var/lib/logrotate/status"),
        ("a daemon that came along writes it", "/var/lib/smartmontools/smartd.X-1.ata.state"),
        ("links are made for many", "/etc/systemd/system/multi-user.target.wants/nginx.service"),
        ("dpkg writes it", "/var/lib/dpkg/info/x"),
        ("Python writes it", "/opt/x/__pycache__/a.pyc"),
        ("we wrote it", "/etc/pg/create.d/mlops.conf"),
        ("a killed run of ours left it", "/etc/pg/create.d/.mlops-new-mlops.conf"),
        ("it was there when the packages came", "/etc/x/made"),
        ("the system's language", "/etc/default/locale"),
        ("no place of settings or data", "/usr/lib/x"),
    ],
)  # fmt: skip
def test_what_comes_by_itself_is_no_sign(why: str, path: str) -> None:
    ledger = Ledger().claim("r", "file", "/etc/pg/create.d/mlops.conf")
    assert used.unknown([path], (), ledger, {"/etc/x/made"}) == [], why


def test_only_what_no_other_package_lists_is_searched() -> None:
    listed = {"a": {"/etc/default", "/etc/default/a", "/etc/a", "/var/log/a"}, "b": {"/etc/a"}}
    assert used.own_folders(listed, {"/etc/default"}) == {
        "/etc/default/a": {"a"},
        "/etc/a": {"a", "b"},
    }


def test_what_scripts_would_take_away_is_searched() -> None:
    script = """#!/bin/sh
# rm -rf /var/lib/commented/out
rm -rf /var/lib/prometheus/metrics /var/lib/prometheus/metrics2 \\
    /etc/prometheus/x /var/log/prometheus
echo /etc/not/removed
rm -f "$DIR/etc/relative/x"
"""
    assert used.mentioned(script) == {
        "/var/lib/prometheus/metrics",
        "/var/lib/prometheus/metrics2",
        "/etc/prometheus/x",
    }


def test_the_sums_of_settings_are_read_without_those_that_are_obsolete() -> None:
    text = (
        "Package: nginx-common\nStatus: install ok installed\nConffiles:\n"
        " /etc/nginx/nginx.conf 0123\n /etc/nginx/old.conf 4567 obsolete\nDescription: x\n y\n\n"
        "Package: other\nConffiles:\n /etc/other 89ab\n"
    )
    assert used.settings(text, ["nginx-common"]) == {
        "nginx-common": {"/etc/nginx/nginx.conf": "0123"}
    }


def test_the_programs_of_a_unit_are_read() -> None:
    text = "[Service]\nExecStartPre=-/bin/test -f x\nExecStart = +/usr/sbin/nginx -g 'daemon off'\n"
    assert used.programs(text) == ("/usr/bin/test", "/usr/sbin/nginx")


def test_only_a_mark_that_was_made_after_us_counts() -> None:
    ledger = Ledger().claim("r", "package", "late", auto=True)
    ledger = ledger.claim("r", "package", "old", auto=False).claim("r", "package", "unread")
    assert list(used.marked(ledger, ["late", "old", "unread", "foreign"])) == ["late"]


@pytest.mark.parametrize(
    ("sign", "all_of_them"),
    [
        ("nginx-common", {"nginx-common", "nginx"}),
        ("nginx", {"nginx"}),
        ("libjs", {"libjs", "prometheus"}),
    ],
)
def test_what_builds_on_a_package_in_use_stays_with_it(sign: str, all_of_them: set[str]) -> None:
    assert set(used.with_users(INSTALLED, INSTALLED, {sign: "why"})) == all_of_them


@pytest.mark.parametrize(
    ("trace", "packages_of_it"),
    [
        ("/etc/nginx", {"nginx", "nginx-common"}),
        ("/etc/rc2.d/S01prometheus-nginx-exporter", {"prometheus-nginx-exporter"}),
        ("/var/lib/unheard-of", {"nginx", "nginx-common", "prometheus-nginx-exporter"}),
    ],
)
def test_a_trace_belongs_to_the_packages_that_have_to_do_with_it(
    trace: str, packages_of_it: set[str]
) -> None:
    names = ["nginx", "nginx-common", "prometheus-nginx-exporter"]
    ledger = Ledger().claim("r", "trace", trace, packages=names)
    thing = ledger.get("trace", trace)
    assert thing is not None
    assert used.holders(thing, names, {"/etc/nginx/conf.d": {"nginx-common"}}) == packages_of_it


PACKAGED = {
    "/usr/lib/systemd/system/nginx.service": "nginx-common",
    "/usr/lib/systemd/system/smartd.service": "smartmontools",
}


def test_units_that_rest_are_known_also_from_before_they_were_noted() -> None:
    assert used.rested(Ledger(), PACKAGED) == {"nginx.service": "nginx-common"}
    ledger = Ledger().claim("r", "rested", "x.service", package="smartmontools", done=True)
    assert used.rested(ledger, PACKAGED)["x.service"] == "smartmontools"


def test_a_unit_that_was_not_stopped_yet_is_no_sign() -> None:
    ledger = Ledger().claim("r", "rested", "nginx.service", package="nginx-common", done=False)
    assert used.rested(ledger, PACKAGED) == {}


@pytest.mark.parametrize(
    ("cgroup", "foreign"),
    [
        ("0::/system.slice/company.service\n", True),
        ("0::/user.slice/user-0.slice/session-1.scope\n", True),
        ("0::/system.slice/system-postgresql.slice/postgresql@17-firma.service\n", True),
        ("0::/mlops.slice/mlops-postgresql.service\n", False),
        ("1:name=systemd:/mlops.slice/mlops-postgresql.service\n0::/x\n", False),
        ("0::/system.slice/smartd.service\n", False),
    ],
)
def test_whose_a_process_is(cgroup: str, foreign: bool) -> None:
    ledger = Ledger().claim(
        "r", "unit", "mlops-postgresql.service", unit="mlops-postgresql.service", path="/x"
    )
    packaged = {"smartd.service", "postgresql@.service"}
    assert used.foreign_process(cgroup, packaged, ledger) is foreign


OURS = {990}


@pytest.mark.parametrize(
    ("path", "uid", "around", "foreign"),
    [
        ("/etc/mlops/monitoring/NOTE", 0, (0, 0), True),
        ("/etc/mlops/monitoring/a.yml", 0, (0, 0), False),
        ("/etc/mlops/monitoring/.mlops-new-a.yml", 0, (0, 0), False),
        ("/var/lib/mlops/monitoring/NOTE", 0, (0, 0), True),
        ("/var/lib/mlops/monitoring/prometheus/chunk", 990, (990, 990), False),
        ("/var/lib/mlops/monitoring/prometheus/note", 1000, (990, 990), True),
        ("/var/lib/mlops/model_serving/releases/3/model.onnx", 0, (0, 0), False),
        ("/var/lib/mlops/model_serving/current", 0, (0, 991), False),
        ("/opt/mlops/x/__pycache__/a.pyc", 0, (0, 0), False),
    ],
)
def test_whose_a_file_in_a_directory_of_ours_is(
    path: str, uid: int, around: tuple[int, int], foreign: bool
) -> None:
    ledger = Ledger().claim("r", "file", "/etc/mlops/monitoring/a.yml")
    for name in ("/etc/mlops/monitoring", "/var/lib/mlops/monitoring", "/opt/mlops/x/__pycache__"):
        ledger = ledger.claim("r", "directory", name, whole=True)
    assert used.stranger(path, uid, around, ledger, OURS) is foreign


def test_the_marks_are_noted_once() -> None:
    ledger = Ledger().claim("r", "package", "a").claim("r", "package", "b")
    ledger = packages.read_marks(ledger, "r", {"a"})
    again = packages.read_marks(ledger, "r", {"a", "b"})
    for one in (ledger, again):
        assert [thing.data["auto"] for thing in one] == [True, False]


def test_apt_keeps_what_the_role_has_brought_and_nothing_else() -> None:
    ledger = Ledger().claim("r", "package", "libstdc++6").claim("other", "package", "x")
    text = packages.wanted_words(ledger, "r")
    assert '"^libstdc\\+\\+6$";' in text
    assert "^x$" not in text


# The eyes, on a host of files


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dpkg of one package with a directory of its own, below a path that counts as /srv."""
    info, place, units = tmp_path / "info", tmp_path / "place", tmp_path / "units"
    for path in (info, place, units):
        path.mkdir()
    (place / "packaged").write_text("as it came")
    (info / "web.list").write_text(f"{place}\n{place}/packaged\n/usr/sbin/web\n")
    monkeypatch.setattr(snapshot, "DPKG_INFO", str(info))
    monkeypatch.setattr(used_apply, "UNITS", str(units))
    monkeypatch.setattr(used, "PLACES", (str(tmp_path),))
    return tmp_path


def look(ledger: Ledger, status: str = "") -> dict[str, str]:
    found = used_apply.read(ledger, "r", status, {"web": Installed("web", ())})
    return dict(found.packages)


BROUGHT = Ledger().claim("r", "package", "web", auto=False)


def test_a_package_that_only_we_use_shows_no_sign(host: Path) -> None:
    assert look(BROUGHT) == {}


def test_a_file_of_the_company_is_seen_and_named(host: Path) -> None:
    (host / "place" / "site").write_text("the company's")
    assert look(BROUGHT) == {"web": f"{host}/place/site did not come with the platform"}


def test_a_link_of_the_company_is_seen(host: Path) -> None:
    (host / "place" / "site").symlink_to("/srv/company")
    assert look(BROUGHT) == {"web": f"{host}/place/site did not come with the platform"}


def test_a_changed_setting_is_seen_and_a_missing_one_is_not(host: Path) -> None:
    rows = f"Package: web\nConffiles:\n {host}/place/packaged %s\n {host}/place/gone 0123\n"
    assert look(BROUGHT, rows % "9dec7aac4e0ab5b8c6a1c0f5b1d3c1d2") == {
        "web": f"{host}/place/packaged was changed"
    }
    same = hashlib.md5(b"as it came", usedforsecurity=False).hexdigest()
    assert look(BROUGHT, rows % same) == {}


def test_a_unit_of_the_company_that_runs_the_program_is_seen(host: Path) -> None:
    unit = host / "units" / "company.service"
    unit.write_text("[Service]\nExecStart=/usr/sbin/web -c /srv/x\n")
    assert look(BROUGHT) == {"web": f"{unit} runs /usr/sbin/web"}
    ours = BROUGHT.claim("r", "unit", "company.service", path=str(unit), unit="company.service")
    assert look(ours) == {}


def test_a_program_that_runs_for_somebody_else_is_seen(host: Path) -> None:
    program = host / "place" / "web"
    shutil.copy("/bin/sleep", program)
    (host / "info" / "web.list").write_text(f"{host}/place\n{host}/place/packaged\n{program}\n")
    with subprocess.Popen([program, "600"], start_new_session=True) as running:
        try:
            assert look(BROUGHT) == {"web": f"{program} runs as process {running.pid}"}
        finally:
            running.kill()
    assert look(BROUGHT) == {}


def test_files_of_a_script_are_noted_when_the_packages_come(host: Path) -> None:
    (host / "place" / "made").write_text("by a script")
    made = used_apply.made([str(host / "place")])
    assert made == [f"{host}/place/made"]
    ledger = BROUGHT.claim("r", "trace", f"{host}/place", packages=["web"], files=made)
    assert look(ledger) == {}


def test_what_guests_left_in_a_directory_of_ours_goes_only_where_it_was_told(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job's copy of its script, in the spool of a scheduler whose host lost its power."""
    script = host / "spool" / "job00012" / "slurm_script"
    script.parent.mkdir(parents=True)
    script.write_text("#!/bin/sh\n")
    monkeypatch.setattr(used, "stranger", lambda *_: True)
    told = Ledger().claim("r", "directory", f"{host}/spool", whole=True)
    seen = used_apply.read(told, "r", "", {}).strangers
    assert seen == {f"{host}/spool": (str(script),)}
    told = told.claim("r", "directory", f"{host}/spool", whole=True, guests=True)
    assert used_apply.read(told, "r", "", {}).strangers == {}
