# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MLflow's client is loaded without what is only there for projects."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest
from mlops_pipeline.tracking import without

NAME = "a_package_of_projects"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package that can be loaded."""
    (tmp_path / f"{NAME}.py").write_text("WORD = 'here'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    return NAME


def test_a_package_is_not_found_meanwhile_and_afterwards_it_is(package: str) -> None:
    with without(package), pytest.raises(ImportError):
        import_module(package)
    assert import_module(package).WORD == "here"


def test_it_is_found_afterwards_whatever_went_wrong(package: str) -> None:
    with pytest.raises(ZeroDivisionError), without(package):
        raise ZeroDivisionError
    assert import_module(package).WORD == "here"


def test_what_is_loaded_stays_loaded(package: str) -> None:
    loaded = import_module(package)
    with without(package):
        assert import_module(package) is loaded
    assert import_module(package) is loaded
