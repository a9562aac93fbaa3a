"""A site on real hosts has one identity, and nobody gives it other keys by accident.

Only the role trust is applied: it makes the authority, which every other role stands on.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.infra.outside import SITE
from tests.infra.test_assess import Hosts, changes

ROOT = Path(__file__).resolve().parents[2]
LEDGER = "/var/lib/mlops/ledger.json"
OTHER = "another-site-0001"


class Checkout:
    """A folder with the inventory of the site, as somebody has it."""

    def __init__(self, folder: Path, hosts: Hosts) -> None:
        self.folder = folder
        self.secrets = folder / "group_vars/all/secrets.yml"
        variables = yaml.safe_load((SITE / "group_vars/all/main.yml").read_text())
        variables.update(
            mlops_site_name="plant", metadata_db_mode="managed", object_store_mode="managed"
        )
        del variables["mlops_secrets_file"]
        self.secrets.parent.mkdir(parents=True)
        (self.secrets.parent / "main.yml").write_text(yaml.safe_dump(variables))
        (folder / "hosts.yml").write_text(yaml.safe_dump(hosts.site().data))

    def run(self, playbook: str, *arguments: str) -> tuple[int, str]:
        """Exit code, and what was said on one line."""
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("ansible-playbook")),
                f"--inventory={self.folder}",
                *arguments,
                str(ROOT / "playbooks" / playbook),
            ],
            cwd=ROOT,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_NOCOLOR": "1",
                "MOLECULE_PROJECT_DIRECTORY": str(ROOT),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, re.sub(r"\s+", " ", done.stdout + done.stderr)

    def files(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def hosts(request: pytest.FixtureRequest) -> Hosts:
    return Hosts(request.config.option.ssh_config)


def site_of(hosts: Hosts, host: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(hosts.read(host, LEDGER)).get("site") or {}
    return found


def rewrite(hosts: Hosts, host: str, change: str) -> None:
    """Run a line of Python over the ledger ``page`` of a host."""
    program = (
        f"import json; place = '{LEDGER}'; page = json.load(open(place)); {change}; "
        "json.dump(page, open(place, 'w'))"
    )
    hosts.shell(host, f'python3 -c "{program}"')


@pytest.fixture(scope="module")
def living(hosts: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A site, made from nothing and taken away in the end."""
    before = hosts.snapshot()
    checkout = Checkout(tmp_path_factory.mktemp("plant"), hosts)
    code, said = checkout.run("site.yml", "--tags=trust")
    assert code == 0, said
    yield checkout
    code, said = checkout.run("remove.yml", "--tags=trust")
    assert code == 0, said
    assert changes(hosts, before) == []


def test_every_host_bears_the_same_identity_and_a_job_changes_and_leaves_nothing(
    living: Checkout, hosts: Hosts, tmp_path: Path
) -> None:
    """The job is a second run; it has its secrets in variables and keeps nothing."""
    assert len({site_of(hosts, name)["id"] for name in hosts.addresses}) == 1
    assert set(site_of(hosts, hosts.control)["fingerprints"]) >= {"trust_ca_key"}
    assert "fingerprints" not in site_of(hosts, hosts.edge)
    job = Checkout(tmp_path / "job", hosts)
    before = job.files()
    given = (f"--extra-vars=@{living.secrets}", f"--extra-vars=mlops_state_dir={tmp_path}/state")
    code, said = job.run("site.yml", "--tags=trust", *given)
    assert code == 0, said
    assert re.findall(r"changed=(\d+)", said) == ["1", "0", "0"], "only its own copy of ca.crt"
    assert job.files() == before


def test_check_mode_writes_no_identity(living: Checkout, hosts: Hosts) -> None:
    rewrite(hosts, hosts.edge, "page.pop('site')")
    code, said = living.run("site.yml", "--tags=trust", "--check", "--diff")
    assert code == 0, said
    assert site_of(hosts, hosts.edge) == {}
    code, said = living.run("site.yml", "--tags=trust")
    assert code == 0, said
    assert site_of(hosts, hosts.edge)["id"] == site_of(hosts, hosts.control)["id"]


@pytest.mark.parametrize("playbook", ["assess.yml", "selfcheck.yml"])
def test_a_fresh_checkout_is_refused_and_writes_no_secret(
    living: Checkout, hosts: Hosts, tmp_path: Path, playbook: str
) -> None:
    fresh = Checkout(tmp_path / "fresh", hosts)
    before = {name: hosts.read(name, LEDGER) for name in hosts.addresses}
    code, said = fresh.run(playbook, "--tags=trust")
    assert code != 0, said
    assert f"{hosts.control} belongs to plant, whose secrets are not here: " in said
    assert f"restore {fresh.secrets} from a backup" in said
    assert not fresh.secrets.exists()
    assert {name: hosts.read(name, LEDGER) for name in hosts.addresses} == before


def test_a_site_without_fingerprints_is_known_by_its_authority(
    living: Checkout, hosts: Hosts, tmp_path: Path
) -> None:
    """As release 0.2.0 left it; the second engineer made another key meanwhile."""
    mine = Checkout(tmp_path / "mine", hosts)
    shutil.copy(living.secrets, mine.secrets)
    text = re.sub(r"(?s)trust_ca_key:.*?END PRIVATE KEY-----\n", "", mine.secrets.read_text())
    mine.secrets.write_text(text + "trust_ca_key: |\n" + indented(new_key()))
    for name in hosts.addresses:
        rewrite(hosts, name, "page.pop('site')")
    code, said = mine.run("assess.yml")
    assert code == 1, said
    assert "trust_ca_key is not the key of the authority that " in said
    assert '-e \'{"mlops_rekey": ["trust_ca_key"]}\'' in said
    code, said = living.run("site.yml", "--tags=trust")
    assert code == 0, said
    assert {site_of(hosts, name)["adopts"] for name in hosts.addresses} == {True}


def indented(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())


def new_key() -> str:
    command = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_a_shortened_secret_is_named(living: Checkout, hosts: Hosts, tmp_path: Path) -> None:
    mine = Checkout(tmp_path / "mine", hosts)
    values = yaml.safe_load(living.secrets.read_text())
    name = next(key for key in sorted(values) if key.endswith("password"))
    mine.secrets.write_text(yaml.safe_dump({**values, name: values[name][:-1]}))
    code, said = mine.run("assess.yml")
    assert code == 1, said
    assert f"{name} is not what {hosts.control} of plant was made with" in said
    assert values[name][:-1] not in said


def test_hosts_of_two_sites_are_refused_by_name(living: Checkout, hosts: Hosts) -> None:
    identity = site_of(hosts, hosts.edge)["id"]
    rewrite(hosts, hosts.edge, f"page['site']['id'] = '{OTHER}'")
    try:
        code, said = living.run("assess.yml")
        assert code == 1, said
        assert "FAIL site: the hosts belong to 2 sites: " in said
        assert f"{hosts.edge} to plant ({OTHER[:8]})" in said
        code, said = living.run("remove.yml", "--tags=trust")
        assert code == 2, said
        assert f"take {hosts.edge} out of this inventory" in said
    finally:
        rewrite(hosts, hosts.edge, f"page['site']['id'] = '{identity}'")
