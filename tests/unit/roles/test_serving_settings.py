# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a model is served, where its release says otherwise than the server was told."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.yaml import yaml_load

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "roles/model_serving/files"))
settings = importlib.import_module("mlops_serving.settings")
versions_of = importlib.import_module("mlops_serving.release").versions_of
TOLD = settings.Settings(2, 8, 3600.0, 500, 0.01, 5, 0)


@pytest.mark.parametrize("config", [{}, {"serving": None}, {"serving": {}}, {"tolerance": 1}])
def test_what_a_release_does_not_say_is_as_the_server_was_told(config: dict[str, Any]) -> None:
    assert TOLD.of(config) == TOLD


def test_what_a_release_says_goes_before_it() -> None:
    said = {"threads": 4, "drift_false_alarms_per_month": 0, "truth_requests": 20}
    found = TOLD.of({"serving": said})
    assert found.as_dict() == {**TOLD.as_dict(), **said}


@pytest.mark.parametrize(("asked", "given"), [(4, 4), (8, 8), (9, 8)])
def test_no_model_takes_requests_that_the_server_refuses(asked: int, given: int) -> None:
    assert TOLD.of({"serving": {"request_max_mib": asked}}).request_max_mib == given


@pytest.mark.parametrize("name", settings.BOUNDS)
def test_every_key_has_bounds_that_count_and_one_that_the_role_has(name: str) -> None:
    _whole, least, most = settings.BOUNDS[name]
    for value in (least, most):
        kept = settings.read({"serving": {name: value}})
        assert kept == {name: value}
    for value in (least - 1, most + 1, float("nan"), "1", True, None, [1]):
        with pytest.raises(ValueError, match=rf"serving\.{name} is .*, wanted a .*number from"):
            settings.read({"serving": {name: value}})
    specs = yaml_load((ROOT / "roles/model_serving/meta/argument_specs.yml").read_text())
    assert f"model_serving_{name}" in specs["argument_specs"]["main"]["options"]


def test_a_part_of_a_number_is_none_where_it_is_counted() -> None:
    with pytest.raises(ValueError, match=r"threads is '1\.5', wanted a whole number"):
        settings.read({"serving": {"threads": 1.5}})
    assert settings.read({"serving": {"drift_window_seconds": 1.5}}) == {
        "drift_window_seconds": 1.5
    }


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"threds": 1}, "serving.threds is not known; known are threads,"),
        ("threads", "serving is 'threads', wanted a mapping"),
    ],
)
def test_what_nobody_reads_is_refused(said: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        settings.read({"serving": said})


@pytest.mark.parametrize(
    ("version", "found"),
    [
        ("7", ("7",)),
        ("7-config.2", ("7-config.2", "7")),
        ("7-config.x", ("7-config.x",)),
        ("-config.2", ("-config.2",)),
    ],
)
def test_a_configuration_is_asked_by_the_version_of_its_model(
    version: str, found: tuple[str, ...]
) -> None:
    assert versions_of(version) == found
