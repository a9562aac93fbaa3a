# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What travels to a device is named, complete and nothing more; older layouts are taken over."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.mlops.onprem.plugins.filter.release_keys import release_keys

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "plugins" / "module_utils" / "_release"
ROLE = ROOT / "roles" / "model_serving"
VARS = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())
SOURCE, TARGET = "{{ __model_serving_shared }}/", "{{ __model_serving_app }}/mlops_release/"
ENTRY = "device/cli.py"
AGENT = "device/polling.py"


def travels() -> list[str]:
    rows: list[dict[str, Any]] = VARS["__model_serving_release"]
    return [row["source"].removeprefix(SOURCE) for row in rows]


def imported(file: str) -> set[str]:
    """Files of the package that a file needs: what it imports, and the packages these lie in."""
    folder = (PACKAGE / file).parent
    needed = {folder / "__init__.py"}
    for node in ast.walk(ast.parse((PACKAGE / file).read_text())):
        if isinstance(node, ast.Import):
            tops = {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            tops = {str(node.module).partition(".")[0]}
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{file}, line {node.lineno}: name the module after the dots"
            place = folder.joinpath(*[".."] * (node.level - 1), *node.module.split("."))
            needed.add(place.with_suffix(".py").resolve())
            continue
        else:
            continue
        strangers = tops - set(sys.stdlib_module_names)
        assert not strangers, f"{file} imports {strangers}, which devices need not have"
    return {str(path.resolve().relative_to(PACKAGE)) for path in needed}


def closure(entry: str) -> set[str]:
    found: set[str] = set()
    fresh = {entry}
    while fresh:
        found |= fresh
        fresh = {name for file in fresh for name in imported(file)} - found
    return found | {"__init__.py"}


def test_what_travels_is_what_the_command_imports_and_nothing_more() -> None:
    assert sorted(travels()) == sorted(closure(ENTRY))


def test_a_file_is_called_on_the_device_as_in_the_collection() -> None:
    for row in VARS["__model_serving_release"]:
        assert row["source"].startswith(SOURCE)
        assert row["path"] == TARGET + row["source"].removeprefix(SOURCE)


def test_the_agent_brings_what_it_imports_beyond_the_command_and_nothing_more() -> None:
    rows = VARS["__model_serving_agent_code"]
    brought = [row["source"].removeprefix(SOURCE) for row in rows]
    assert sorted(brought) == sorted(closure(AGENT) - closure(ENTRY))
    for row in rows:
        assert row["path"] == TARGET + row["source"].removeprefix(SOURCE)


def test_the_agent_runs_from_the_files_that_travel(tmp_path: Path) -> None:
    for file in closure(AGENT):
        target = tmp_path / "mlops_release" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((PACKAGE / file).read_bytes())
    template = (ROLE / "templates" / "mlops-fleet.j2").read_text(encoding="utf-8")
    program = template.replace("{{ __model_serving_app }}", str(tmp_path))
    program = program.replace("{{ '#!' }}", "#!")
    done = subprocess.run(
        [sys.executable, "-IB", "-c", program, "--fleet=/nonexistent", "poll"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "/nonexistent" in done.stderr


def test_nothing_is_both_placed_and_taken_away() -> None:
    placed = {row["path"] for row in VARS["__model_serving_release"]}
    assert not placed & set(VARS["__model_serving_gone"])


@pytest.mark.parametrize("left_behind", [False, True])
def test_the_command_runs_from_the_files_that_travel(tmp_path: Path, left_behind: bool) -> None:
    """Also where files of the older layout were left beside the new ones."""
    for file in travels():
        target = tmp_path / "mlops_release" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((PACKAGE / file).read_bytes())
    if left_behind:
        for gone in VARS["__model_serving_gone"]:
            stale = tmp_path / "mlops_release" / gone.removeprefix(TARGET)
            stale.write_text("raise SystemExit('a file of the older layout was read')\n")
    template = (ROLE / "templates" / "mlops-release.j2").read_text(encoding="utf-8")
    program = template.replace("{{ __model_serving_app }}", str(tmp_path))
    program = program.replace("{{ '#!' }}", "#!")
    done = subprocess.run(
        [sys.executable, "-IB", "-c", program, "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "activate" in done.stdout


PEM = "-----BEGIN PUBLIC KEY-----\nQUFBQQ==\n-----END PUBLIC KEY-----\n"
OTHER = PEM.replace("QUFB", "QkJC")


def rendered(name: str, **variables: Any) -> Any:
    """A variable of the role with these in the inventory."""
    loader = DataLoader()
    pages = [
        loader.load_from_file(str(ROLE / page), trusted_as_template=True)
        for page in ("defaults/main.yml", "vars/main.yml", "vars/capacity.yml")
    ]
    known = {key: value for page in pages for key, value in page.items()}
    known |= {"inventory_hostname": "edge1", "role_path": str(ROLE), **variables}
    templar = Templar(loader=loader, variables=known)
    templar.environment.filters["mlops.onprem.release_keys"] = release_keys
    return templar.template(known[name])


@pytest.mark.parametrize(
    ("public_key", "listed", "keys", "severity"),
    [
        (PEM, [], [{"public_key": PEM.strip()}], "pass"),
        ("", [], [], "fail"),
        ("no key", [], [{"public_key": "no key"}], "fail"),
        ("", [{"public_key": OTHER}], [{"public_key": OTHER}], "pass"),
        (
            PEM,
            [{"public_key": OTHER}],
            [{"public_key": OTHER}, {"public_key": PEM.strip()}],
            "pass",
        ),
        (
            PEM,
            [{"public_key": f"  {PEM}", "revoked": True}],
            [{"public_key": f"  {PEM}", "revoked": True}],
            "fail",
        ),
        (
            PEM,
            [{"public_key": PEM, "revoked": True}, {"public_key": OTHER, "revoked": False}],
            [{"public_key": PEM, "revoked": True}, {"public_key": OTHER, "revoked": False}],
            "pass",
        ),
    ],
    ids=["one", "none", "no key", "list", "both", "revoked", "rotated"],
)
def test_the_one_key_counts_beside_the_list_unless_it_is_revoked_there(
    public_key: str, listed: list[Any], keys: list[Any], severity: str
) -> None:
    given = {"model_serving_public_key": public_key, "model_serving_release_keys": listed}
    assert rendered("__model_serving_keys", **given) == keys
    assert rendered("__model_serving_findings", **given)[0]["severity"] == severity


MODELS = [
    {"name": "welds", "memory_mib": 300, "release_max_mib": 40},
    {"name": "sounds", "memory_mib": "64", "release_max_mib": "100"},
]


@pytest.mark.parametrize(("models", "memory", "disk"), [([], 512, 400), (MODELS, 614, 560)])
def test_the_limit_of_the_kernel_is_what_the_demand_reserves(
    models: list[Any], memory: int, disk: int
) -> None:
    demand = rendered("model_serving_demand", model_serving_models=models)[0]
    assert (int(demand["memory_mib"]), int(demand["disks"][1]["mib"])) == (memory, disk)
    assert int(rendered("__model_serving_memory_mib", model_serving_models=models)) == memory


def test_every_file_of_the_server_is_brought_to_whoever_runs_it() -> None:
    files = {path.name for path in (ROLE / "files" / "mlops_serving").glob("*.py")}
    workloads = yaml.safe_load((ROLE.parent / "workloads" / "vars" / "main.yml").read_text())
    for rows in (VARS["__model_serving_server"], workloads["__workloads_code_onnx"]):
        assert [Path(row["source"]).name for row in rows] == sorted(files)
        assert [Path(row["path"]).name for row in rows] == sorted(files)
