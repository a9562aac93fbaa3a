"""What travels to a user in the collection's tarball: what is needed, nothing of tests or sites."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOP = {
    *("CHANGELOG.md", "CONTRIBUTING.md", "FILES.json", "LICENSE", "MANIFEST.json", "README.md"),
    "SECURITY.md",
    *("ansible.cfg", "changelogs", "docs", "inventories", "meta", "pipeline", "playbooks"),
    *("plugins", "requirements", "requirements-2.21.txt", "requirements.txt", "roles", "site.yml"),
}
SECRET = "never-in-a-tarball"
# What lies about in a tree where somebody works and has a site of their own.
LEFT = (
    ".cache/molecule-2/inventory/group_vars/all/secrets.yml",
    ".collections/kept",
    ".env",
    ".venv/bin/python",
    "build/test/unit.log",
    "extensions/molecule/inventory/.state/ssh/id_ed25519",
    "extensions/molecule/compute/inventory/group_vars/all/company_mariadb.yml",
    "extensions/molecule/inventory/group_vars/all/s3.yml",
    "inventories/acme/group_vars/all/secrets.yml",
    "inventories/acme/hosts.yml",
    "inventories/lab/.state/ca/ca.key",
    "inventories/lab/group_vars/all/company.yml",
    "inventories/lab/group_vars/all/secrets.yml",
    "inventories/exo/group_vars/all/passwords.yml",
    "inventories/example_company2/hosts.yml",
    "inventories/example_company/group_vars/all/vault.yml",
    "inventories/example_company/host_vars/mlops1/tls.yml",
    "inventories/single_server/host_vars/server1.yml",
    "inventories/single_server.bak/hosts.yml",
    "inventories/single/hosts.yml",
    "inventories/site2/group_vars/all/secrets.yml",
    "inventories/single_server/.state/report.json",
    "inventories/single_server/group_vars/all/.secrets.yml.k2j3",
    "inventories/single_server/group_vars/all/company.yml",
    "inventories/single_server/group_vars/all/secrets.yml",
    "acme/hosts.yml",
    "changelogs/.plugin-cache.yaml",
    "company-ca.key",
    "docs/passwords.txt",
    "docs/schema/acme.yml",
    "group_vars/all/secrets.yml",
    "hosts.yml",
    "meta/company.yml",
    "mlops-onprem-0.0.1.tar.gz",
    "pipeline/__pycache__/x.pyc",
    "pipeline/data/patients.csv",
    "playbooks/group_vars/all/secrets.yml",
    "playbooks/hosts.yml",
    "playbooks/vars/secrets.yml",
    "playbooks/vars/.secrets-k2j3.yml",
    "plugins/modules/.idea/x.py",
    "plugins/modules/host.key",
    "requirements/company.txt",
    "roles/trust/.cache/tasks/x.yml",
    "roles/trust/files/ca.key",
    "roles/trust/files/secrets.yml",
    "roles/trust/molecule/x.yml",
    "site.retry",
    "tests/output/junit.xml",
    "tmp/dump",
)
NEEDED = (
    "LICENSE",
    "changelogs/changelog.yaml",
    "inventories/example_company/group_vars/all",
    "inventories/single_server/group_vars/all/site.yml",
    "meta/runtime.yml",
    "pipeline/environment.py",
    "pipeline/mlops_pipeline",
    "playbooks/pipeline_check.yml",
    "playbooks/vars/pipeline.yml",
    "plugins/module_utils/_release",
    "requirements/pipeline.txt",
    "roles/model_serving/files/requirements.txt",
    "site.yml",
)


def tracked() -> list[str]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [name for name in said.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every file and directory of the tarball, built where a site stands."""
    tree, output = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("output")
    for name in tracked():
        if not name.startswith("tests/fixtures/"):  # large, and below tests as the others are
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    for name in LEFT:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(SECRET)
    galaxy = Path(sys.executable).with_name("ansible-galaxy")
    subprocess.run(
        [str(galaxy), "collection", "build", "--output-path", str(output), str(tree)],
        check=True,
        capture_output=True,
        cwd=output,
    )
    (path,) = output.glob("mlops-onprem-*.tar.gz")
    found = {}
    with tarfile.open(path) as tar:
        for member in tar:
            stream = tar.extractfile(member)
            found[member.name] = stream.read() if stream else b""
    return found


def test_nothing_but_the_known_lies_at_the_top(contents: dict[str, bytes]) -> None:
    assert {name.split("/")[0] for name in contents} == TOP


def test_no_site_and_no_leftover_travels(contents: dict[str, bytes]) -> None:
    assert not set(contents) & set(LEFT)
    files = {name for name, data in contents.items() if data}
    assert files - {"FILES.json", "MANIFEST.json"} <= set(tracked())
    assert not [name for name, data in contents.items() if SECRET.encode() in data]
    assert {name.split("/")[1] for name in contents if name.startswith("inventories/")} == {
        "example_company",
        "single_server",
    }


def test_nothing_of_the_tests_travels(contents: dict[str, bytes]) -> None:
    wrong = re.compile(
        r"(^|/)(tests?|molecule|extensions|fixtures|lab|\.[^/]*)(/|$)|test[^/]*\.in$"
    )
    assert not [name for name in contents if wrong.search(name)]


def test_what_runs_at_a_user_is_there(contents: dict[str, bytes]) -> None:
    assert not set(NEEDED) - set(contents)
    examples = ("inventories/example_company/", "inventories/single_server/")
    kept = ("plugins/", "roles/", "playbooks/", "pipeline/", "meta/", *examples)
    wanted = {name for name in tracked() if name.startswith(kept)}
    assert not {name for name in wanted if not name.rpartition("/")[2].startswith(".")} - set(
        contents
    )


def test_the_links_of_the_readme_lead_somewhere(contents: dict[str, bytes]) -> None:
    links = re.findall(r"\]\(((?!https?:|#)[^)#]+)", contents["README.md"].decode())
    assert links
    # Developers read on in the repository.
    assert {link for link in links if link.rstrip("/") not in contents} <= {
        "tests/benchmarks",
        "tests/soak",
    }
