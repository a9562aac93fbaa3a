"""What the first process of a run loads, so that no worker loads it again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[4]
LOAD = """
import gc, json, os, sys
from ansible.plugins import loader
loader.init_plugin_loader([{collections!r}])
from ansible_collections.mlops.onprem.plugins.plugin_utils.preload import (
    ACTIONS, plugins, preload, preload_action,
)
asked = []
for one, name, as_class in plugins():
    try:
        asked.append([name, bool(one.get(name, class_only=True) if as_class else one.get(name))])
    except Exception as error:
        asked.append([name, repr(error)])
preload()
actions = [name for name in sys.modules if ".onprem.plugins.action." in name]
quick = sorted({{"numpy", "scipy"}} & set(sys.modules))
for name in ("mlops.onprem.host_files", "mlops.onprem.preflight", "mlops.onprem.host_service"):
    preload_action(name)
preload_action("ansible.builtin.setup")
site = sys.modules["ansible_collections.mlops.onprem.plugins.lookup.site"]
known = site.description.cache_info().currsize
later, frozen = [[] for _ in range(1000)], gc.get_freeze_count()
child = os.fork()
if not child:
    os._exit(gc.get_freeze_count() < frozen + len(later))
worker = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
before = set(sys.modules)
for name in ("workloads", "slurm_plan", "nginx_subject", "scram_verifier"):
    filters = [key for key in loader.filter_loader._module_cache if key.endswith(f"/{{name}}.py")]
    asked.append([f"file of {{name}}", bool(filters)])
for name in ("host_files", "preflight"):
    loader.action_loader.get(f"mlops.onprem.{{name}}", class_only=True)
for name in ("site", "secret"):
    loader.lookup_loader.get(f"mlops.onprem.{{name}}", class_only=True)
loader.filter_loader.get("mlops.onprem.mysql_password")
print(json.dumps({{"asked": asked, "later": sorted(set(sys.modules) - before),
    "frozen": frozen, "worker": worker, "known": known, "heavy": quick,
    "actions": actions, "ours": sorted(ACTIONS)}}))
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, Any]:
    """In a process of its own, as other tests load plugins too."""
    code = LOAD.format(collections=str(ROOT / ".collections"))
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / ".collections")},
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_everything_that_is_loaded_is_there(loaded: dict[str, Any]) -> None:
    # A file of filters need not have one of its own name; it is loaded all the same.
    wrong = [
        one for one in loaded["asked"] if one[1] is not True and not str(one[1]).startswith("Key")
    ]
    assert wrong == []
    assert sum(good is True for _name, good in loaded["asked"]) > 20


def test_an_action_is_loaded_when_a_task_needs_it(loaded: dict[str, Any]) -> None:
    """Those of an assessment cost a short run more than all others together."""
    assert loaded["actions"] == []
    assert {"mlops.onprem.assessment", "mlops.onprem.host_files"} <= set(loaded["ours"])


def test_nothing_is_loaded_a_second_time(loaded: dict[str, Any]) -> None:
    assert loaded["later"] == []
    assert loaded["frozen"] > 10000


def test_numpy_is_left_to_those_who_plan(loaded: dict[str, Any]) -> None:
    assert loaded["heavy"] == []


KEEP = """
import json, sys
from ansible.parsing.dataloader import DataLoader
from ansible.plugins import loader
loader.init_plugin_loader([{collections!r}])
from ansible_collections.mlops.onprem.plugins.plugin_utils.preload import keep_variables

class Counting(DataLoader):
    read = []
    def get_text_file_contents(self, name, *words, **more):
        self.read.append(name)
        return super().get_text_file_contents(name, *words, **more)

files = Counting()
templated = "{{{{ lookup('x') }}}}"
names = ["vars/wiring.yml", {company!r}, "vars/nothing.yml", templated, ["vars/site.yml"]]
keep_variables(files, [{playbooks!r}], names)
for _again in range(3):
    for name in ("vars/wiring.yml", {company!r}):
        path = files.path_dwim_relative_stack([{playbooks!r}], "vars", name)
        files.load_from_file(path, unsafe=True, cache="vaulted", trusted_as_template=True)
print(json.dumps([str(name).rpartition("/")[2] for name in files.read]))
"""


def test_our_variables_are_parsed_once_and_those_of_a_company_each_time(tmp_path: Path) -> None:
    company = tmp_path / "company.yml"
    company.write_text("{of_the_company: 1}\n")
    code = KEEP.format(
        collections=str(ROOT / ".collections"),
        company=str(company),
        playbooks=str(ROOT / "playbooks"),
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == ["wiring.yml", *["company.yml"] * 3]


def test_a_worker_knows_what_the_collection_says_of_itself(loaded: dict[str, Any]) -> None:
    assert loaded["known"] == 1


def test_the_collector_of_a_worker_leaves_alone_what_it_was_born_with(
    loaded: dict[str, Any],
) -> None:
    assert loaded["worker"] == 0
