# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates and keys that variables name: a sentence for what is no file, or none of PEM."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mlops.onprem.plugins.plugin_utils import named_files
from ansible_collections.mlops.onprem.plugins.plugin_utils.named_files import FILES, wrong_files

ROOT = Path(__file__).resolve().parents[4]
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN EC PRIVATE KEY-----\nMA==\n-----END EC PRIVATE KEY-----\n"
# Files on hosts, by where their own roles tell of them; "" where no run looks at one.
ON_HOSTS = {
    "gpu_driver_cdi_file": "",  # written by the role
    "job_scheduler_accounting_db.ca_file": "roles/job_scheduler/tasks/preflight.yml",
    "monitoring_alert_mail.ca_file": "roles/monitoring/vars/main.yml",
    "monitoring_alert_webhooks.ca_file": "roles/monitoring/vars/main.yml",
    "monitoring_existing_alertmanagers.ca_file": "roles/monitoring/vars/main.yml",
    "monitoring_existing_ca_file": "roles/monitoring/vars/main.yml",
    # Of the host of the company's Prometheus, which no run reaches.
    "monitoring_existing_tls.ca_file": "",
    "monitoring_existing_tls.cert_file": "",
    "monitoring_existing_tls.key_file": "",
}
# Trust tells of its own files, of a host that does not answer as well; the root document and the
# secrets are made by a run.
ELSEWHERE = re.compile(r"trust_.*|model_serving_fleet_root_file|mlops_secrets_file")
# Of variables that are no options of a role: pages describe them.
WITHOUT_SPEC = {"mlops_workloads.run.ca_file", "pipeline_source.postgresql.ca_file"}
FILE_NAMES = ("_file", "_files", ".ca_file", ".certificate_file", ".key_file")


def options(given: Any, place: str = "") -> Iterator[str]:
    """The options of a spec with all below them, each by its whole name.

    Where a dictionary has no options, its keys are those that its description names.
    """
    for name, option in (given or {}).items():
        yield f"{place}{name}"
        yield from options(option.get("options"), f"{place}{name}.")
        if "dict" in (option["type"], option.get("elements")) and not option.get("options"):
            for key in re.findall(r"C\((\w+)\)", str(option["description"])):
                yield f"{place}{name}.{key}"


def documented() -> set[str]:
    found = set()
    for path in ROOT.glob("roles/*/meta/argument_specs.yml"):
        for entry in yaml.safe_load(path.read_text())["argument_specs"].values():
            found |= {name for name in options(entry.get("options")) if name.endswith(FILE_NAMES)}
    page = (ROOT / "playbooks/vars/pipeline.yml").read_text()
    return found | set(re.findall(r"^#   (pipeline_\w*_file) ", page, re.M))


def test_every_documented_file_of_a_certificate_or_key_is_looked_at() -> None:
    looked_at = {".".join((name, *keys)) for name, below in FILES.items() for keys in below}
    told = {name for name in documented() if not ELSEWHERE.fullmatch(name)}
    assert told == (looked_at - WITHOUT_SPEC) | ON_HOSTS.keys()
    assert not looked_at & ON_HOSTS.keys()


@pytest.mark.parametrize("name", [name for name, page in ON_HOSTS.items() if page])
def test_a_file_on_a_host_is_told_by_its_role_which_names_the_variable(name: str) -> None:
    page = (ROOT / ON_HOSTS[name]).read_text()
    remedies = " ".join(" ".join(page.split("remedy: ")[1:]).split())
    variable, _, key = name.partition(".")
    assert re.search(rf"{key}[^:]* of [^:]*\b{variable}\b" if key else variable, remedies)


def value_of(name: str, paths: dict[tuple[str, ...], str]) -> Any:
    """A value of the variable with these paths in it, in lists where it is one."""
    if () in paths:
        return paths[()]
    found: dict[str, Any] = {}
    for keys, path in paths.items():
        inner = found
        for key in keys[:-1]:
            inner = inner.setdefault(key, {})
        inner[keys[-1]] = path
    return [found] if name in ("metadata_db_client_certificates", "mlops_workloads") else found


def told(name: str, value: Any, state: Path = Path("/nowhere")) -> list[str]:
    return [said for _place, said in wrong_files(name, value, ["/nowhere"], str(state))]


@pytest.mark.parametrize("name", FILES)
def test_each_is_told_by_its_place_and_what_is_wrong(name: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "text.pem").write_text("no certificate and no key\n")
    for path, wrong in {
        tmp_path: "which is a directory",
        tmp_path / "none.pem": "which does not exist on the controller",
        tmp_path / "loop": "which cannot be read on the controller (",
        tmp_path / "text.pem" / "x": "which cannot be read on the controller (Not a directory)",
        tmp_path / "text.pem": "in PEM form",
        Path("/dev/null"): "which is no regular file",
        Path("nowhere.pem"): "which does not exist on the controller",
    }.items():
        said = told(name, value_of(name, dict.fromkeys(FILES[name], str(path))))
        assert len(said) == len(FILES[name])
        for keys, one in zip(FILES[name], said):
            assert re.match(rf"{name}(\[0\])?{''.join(rf'[.]{key}' for key in keys)} is ", one)
            assert f" is {path}, " in one
            assert wrong in one


@pytest.mark.parametrize("name", FILES)
def test_files_that_can_be_used_are_no_finding(name: str, tmp_path: Path) -> None:
    paths: dict[tuple[str, ...], str] = {}
    for keys, kind in FILES[name].items():
        path = tmp_path / f"{len(paths)}.pem"
        path.write_text(KEY if kind == named_files.KEY else CERTIFICATE)
        paths[keys] = str(path)
    assert told(name, value_of(name, paths)) == []
    assert told(name, value_of(name, dict.fromkeys(FILES[name], ""))) == []
    assert told(name, None) == told(name, {}) == []


def test_a_file_that_this_user_may_not_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key.pem"
    path.write_text(KEY)

    def refused(*_args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    (said,) = told("object_store_ca_file", str(path))
    assert said.endswith("which cannot be read on the controller (Permission denied)")


def test_what_a_run_makes_need_not_be_there_before_the_first_one(tmp_path: Path) -> None:
    assert told("metadata_db_ca_file", str(tmp_path / "ca-bundle.crt"), tmp_path) == []
    (said,) = told("metadata_db_ca_file", str(tmp_path / "db.crt"), tmp_path)
    assert "does not exist" in said


def test_a_relative_path_is_found_where_the_run_finds_it(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(CERTIFICATE)
    folders = ["/nowhere", str(tmp_path)]
    assert not list(wrong_files("object_store_ca_file", "ca.pem", folders, "/nowhere"))
