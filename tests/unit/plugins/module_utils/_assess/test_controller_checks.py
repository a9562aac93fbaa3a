# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One finding about all that the controller lacks, with a command that can be copied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._assess.controller_checks import (
    COLLECTIONS,
    PACKAGES,
    Controller,
    check_controller,
    commands,
    told_proxies,
    too_old,
)

ROOT = Path(__file__).resolve().parents[5]


def seen(**more: Any) -> Controller:
    given = {
        "python": "/v/bin/python3",
        "prefix": "/v",
        "collections": {"community.crypto": "3.0.1"},
        **more,
    }
    return Controller(**given)


def test_nothing_is_said_where_nothing_is_lacking() -> None:
    assert check_controller(seen()) is None


def test_all_that_is_lacking_is_one_finding() -> None:
    found = check_controller(
        seen(lacking=["boto3", "psycopg", "uv"], collections={}, programs=["ssh"])
    )
    assert found is not None
    assert found.severity == "fail"
    assert found.found == (
        "this machine lacks the Python packages boto3, psycopg and uv, the collection "
        "community.crypto 3.0.0 or newer and the program ssh"
    )
    assert found.remedy == (
        "install with: /v/bin/python3 -m pip install boto3 'psycopg[binary]' uv && "
        "/v/bin/python3 -m ansible galaxy collection install --upgrade "
        "'community.crypto:>=3.0.0' && apt-get install -y openssh-client"
    )


@pytest.mark.parametrize("version", ["2.26.1", "0", ""])
def test_a_collection_that_is_too_old_is_lacking(version: str) -> None:
    found = check_controller(seen(collections={"community.crypto": version}))
    assert found is not None
    assert "community.crypto 3.0.0 or newer" in found.found
    assert ("(found " in found.found) is bool(version)


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        (
            {"prefix": "/home/admin/.local/share/pipx/venvs/ansible-core"},
            "pipx inject ansible-core numpy uv",
        ),
        (
            {"prefix": "/home/admin/.local/share/uv/tools/ansible-core"},
            "uv tool install ansible-core --with numpy --with uv",
        ),
        ({"pip": False}, "uv pip install --python /v/bin/python3 numpy uv"),
    ],
)
def test_the_command_is_that_of_how_ansible_was_installed(
    more: dict[str, Any], wanted: str
) -> None:
    assert commands(seen(lacking=["numpy", "uv"], **more)) == [wanted]


def test_a_python_of_the_system_gets_packages_of_the_system() -> None:
    assert commands(seen(prefix="/usr", managed=True, lacking=["numpy", "psycopg", "uv"])) == [
        "apt-get install -y python3-numpy python3-psycopg",
        "pipx install uv",
    ]


@pytest.mark.parametrize("core", ["2.16.19", "2.18.19", "2.9", "2.18.0rc1"])
def test_an_old_core_is_refused_in_one_sentence(core: str) -> None:
    said = too_old(core, "/v/bin/python3")
    assert said.startswith(f"This is ansible-core {core}, wanted 2.19 or newer")
    assert said.endswith("install it with: /v/bin/python3 -m pip install 'ansible-core>=2.19'")


@pytest.mark.parametrize("core", ["2.19.0", "2.19.0b1", "2.21.5", "3.0"])
def test_a_core_that_is_new_enough_goes(core: str) -> None:
    assert too_old(core, "python3") == ""


def test_what_is_looked_for_is_what_the_requirements_bring() -> None:
    lines = (ROOT / "requirements" / "controller.in").read_text().splitlines()
    wanted = {line.split(">")[0].split("[")[0] for line in lines if line[:1].isalpha()}
    # core and what it brings, filters of others, and what only a build of the collection needs
    elsewhere = {"Jinja2", "ansible", "ansible-core", "jmespath", "netaddr", "distlib"}
    names = {pip.strip("'").partition("[")[0] for pip, _debian in PACKAGES.values()} | {"uv"}
    assert names == wanted - elsewhere


def test_the_collections_are_those_of_the_dependencies() -> None:
    page = (ROOT / "galaxy.yml").read_text()
    for name, version in COLLECTIONS.items():
        assert f'{name}: ">={".".join(map(str, version))}"' in page


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({"https_proxy": "http://proxy:3128"}, "https_proxy=http://proxy:3128"),
        ({"HTTP_PROXY": "http://anna:geheim@proxy:3128"}, "http_proxy=http://proxy:3128"),
        ({"https_proxy": "anna:ge@heim@proxy:3128"}, "https_proxy=proxy:3128"),
        (
            {"all_proxy": "socks5://p:1080", "NO_PROXY": "localhost,.corp"},
            "all_proxy=socks5://p:1080 and no_proxy=localhost,.corp",
        ),
    ],
)
def test_proxies_are_told_without_accounts(environment: dict[str, str], found: str) -> None:
    told = told_proxies(environment)
    assert told is not None
    assert told.found == f"the environment names {found}"
    assert told.severity == "pass"
    assert "heim" not in str(told)


@pytest.mark.parametrize("environment", [{}, {"no_proxy": "localhost"}, {"https_proxy": ""}])
def test_no_proxy_is_no_finding(environment: dict[str, str]) -> None:
    assert told_proxies(environment) is None
