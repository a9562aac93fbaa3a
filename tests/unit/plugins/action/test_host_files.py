# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller sends to a host: contents, rendered as ansible.builtin.template does."""

from __future__ import annotations

import base64
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import lookup_loader
from ansible.template import Templar
from ansible_collections.mlops.onprem.plugins.action import host_files

PATH = "/etc/mlops/x"


@pytest.fixture(autouse=True)
def _lookups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of collections need Ansible's command line around them; what they mean does not."""
    plain = {"ansible.builtin.template": "template"}
    loader = SimpleNamespace(get=lambda name, **options: lookup_loader.get(plain[name], **options))
    monkeypatch.setattr(host_files, "lookup_loader", loader)


def sent(role: Path, row: dict[str, Any], **variables: Any) -> dict[str, Any]:
    loader = DataLoader()
    loader.set_basedir(str(role))
    given = {"ansible_search_path": [str(role)], **variables}
    asked: dict[str, Any] = {}

    def execute(module_args: dict[str, Any], **_task: Any) -> dict[str, Any]:
        asked.update(module_args)
        return {"changed": False}

    action = host_files.ActionModule(
        SimpleNamespace(
            get_search_path=lambda: [str(role)],
            async_val=0,
            delegate_to=None,
            check_mode=False,
            args={"role": "r", "files": [{"path": PATH, **row}]},
        ),
        SimpleNamespace(_shell=SimpleNamespace(tmpdir="")),
        SimpleNamespace(),
        loader,
        Templar(loader=loader, variables=given),
        None,
    )
    action._execute_module = execute
    answer = action.run(task_vars=given)
    if answer.get("failed"):
        raise AnsibleActionFail(answer["msg"])
    (found,) = asked["files"]
    return dict(found)


def rendered(role: Path, text: str, **variables: Any) -> str:
    (role / "templates").mkdir(exist_ok=True)
    (role / "templates" / "x.j2").write_text(text)
    row = sent(role, {"template": "x.j2"}, **variables)
    assert set(row) == {"path", "payload"}
    return base64.b64decode(row["payload"]).decode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\n", "a\n"),
        ("a", "a"),
        ("a\n\n", "a\n\n"),
        ("", ""),
        ("port {{ port }}\n", "port 80\n"),
        ("{% for n in [1, 2] %}\nline {{ n }}\n{% endfor %}\nend\n", "line 1\nline 2\nend\n"),
        ("{% if true %}\n  kept\n{% endif %}\n", "  kept\n"),
        (r"a\n\\b '\d'" + "\n", r"a\n\\b '\d'" + "\n"),
        ("{% raw %}{{ not_ours }}{% endraw %}\n", "{{ not_ours }}\n"),
        ('{"a": [1, true]}\n', '{"a": [1, true]}\n'),
        ("{{ port }}", "80"),
        ("ä €\n", "ä €\n"),
    ],
)
def test_templates_are_rendered_as_the_template_module_does(
    tmp_path: Path, text: str, expected: str
) -> None:
    assert rendered(tmp_path, text, port=80) == expected


def test_a_template_includes_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "inner.j2").write_text("{{ word }}\n")
    assert rendered(tmp_path, "{% include 'inner.j2' %}\nend\n", word="hi") == "hiend\n"


def test_a_template_leaves_the_variables_as_they_were(tmp_path: Path) -> None:
    hosts = ["a"]
    rendered(tmp_path, "{% set _ = hosts.append('b') %}\n", hosts=hosts)
    assert hosts == ["a"]


def test_a_missing_variable_names_the_template(tmp_path: Path) -> None:
    with pytest.raises(AnsibleActionFail, match=r"template x\.j2 cannot be rendered: .*nowhere"):
        rendered(tmp_path, "{{ nowhere }}\n")


def test_a_missing_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnsibleActionFail, match=r"none\.j2"):
        sent(tmp_path, {"template": "none.j2"})


def test_sources_and_contents_travel_unrendered(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "x").write_bytes(b"{{ raw }}\0\r\n")
    row = sent(tmp_path, {"source": "x", "mode": "0600"})
    assert row["mode"] == "0600"
    assert base64.b64decode(row["payload"]) == b"{{ raw }}\0\r\n"
    assert base64.b64decode(sent(tmp_path, {"content": {"b": 1}})["payload"]) == b'{\n  "b": 1\n}\n'
    assert sent(tmp_path, {"link": "word"}) == {"path": PATH, "link": "word"}


def test_a_secret_travels_under_a_name_that_is_not_logged(tmp_path: Path) -> None:
    assert set(sent(tmp_path, {"content": "x", "sensitive": True})) == {
        "path",
        "sensitive",
        "secret_payload",
    }


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({}, "give exactly one of template, source, content and link"),
        ({"content": "x", "link": "y"}, "give exactly one of template, source, content and link"),
    ],
)
def test_rows_without_one_way_are_refused(
    tmp_path: Path, row: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(AnsibleActionFail, match=sentence):
        sent(tmp_path, row)
