# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whoever writes to a host says for which site, and a host of another one is left as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._host import (
    app_apply,
    files_apply,
    remove_apply,
    service_apply,
    system,
)
from ansible_collections.mlops.onprem.plugins.module_utils._host.args import MODULES
from ansible_collections.mlops.onprem.plugins.module_utils._host.errors import HostError
from ansible_collections.mlops.onprem.plugins.module_utils._host.ledger import Ledger, dump
from ansible_collections.mlops.onprem.plugins.module_utils._host.system import Book

ROOT = Path(__file__).resolve().parents[5]
OWN, OTHER = "site-of-our-own", "site-of-others"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state of a host that belongs to a site."""
    ledger = Ledger(site={"id": OWN, "name": "works"}).claim("monitoring", "file", "/nothing")
    (tmp_path / "ledger.json").write_text(dump(ledger))
    usual = Book.__init__

    def there(self: Book, check: bool, **options: Any) -> None:
        usual(self, check, folder=str(tmp_path), **options)

    monkeypatch.setattr(system, "LOCKED", str(tmp_path))
    monkeypatch.setattr(Book, "__init__", there)
    return tmp_path


def files(place: Path, site: str | None) -> dict[str, Any]:
    row = {"path": str(place / "made"), "payload": "eA==", "mode": "0644"}
    nobody = {"owner": "root", "group": "root", "validate": None, "sensitive": False}
    wanted: dict[str, Any] = {
        "role": "monitoring",
        "site_id": site,
        "groups": [],
        "users": [],
        "directories": [],
        "files": [{**row, **nobody, "adopt": False, "link": None, "secret_payload": None}],
        "absent": [],
    }
    return files_apply.converge(wanted, check=True)


@pytest.mark.parametrize("site", [OTHER, ""])
def test_a_role_used_alone_leaves_the_host_of_another_site(place: Path, site: str) -> None:
    before = (place / "ledger.json").read_text()
    with pytest.raises(HostError, match="This host belongs to the site works"):
        files(place, site)
    with pytest.raises(HostError, match="This host belongs to the site works"):
        remove_apply.converge("monitoring", [], check=False, site=site)
    assert (place / "ledger.json").read_text() == before
    assert not (place / "made").exists()


@pytest.mark.parametrize("site", [OWN, None])
def test_the_site_itself_goes_on(place: Path, site: str | None) -> None:
    assert files(place, site)["changes"]


def test_the_lock_is_free_after_a_refusal(place: Path) -> None:
    for _time in range(2):
        with pytest.raises(HostError, match="nothing was changed"), Book(False, site=OTHER):
            pass
    with Book(False, site=OWN) as book:
        assert book.ledger.site == {"id": OWN, "name": "works"}


@pytest.mark.parametrize("module", MODULES)
def test_every_module_that_writes_is_told_the_site_by_its_action(module: str) -> None:
    code = (ROOT / "plugins" / "modules" / f"{module}.py").read_text(encoding="utf-8")
    action = (ROOT / "plugins" / "action" / f"{module}.py").read_text(encoding="utf-8")
    if "SettledAction" in action:
        action = (ROOT / "plugins/plugin_utils/settled.py").read_text(encoding="utf-8")
    assert "OPTION" in action
    assert "site_of(" in action
    assert "  site_id:\n" in code
    applied = (app_apply, files_apply, service_apply)
    texts = [code, *(Path(str(one.__file__)).read_text(encoding="utf-8") for one in applied)]
    assert any("site=params" in text or "site_id" in text for text in texts)
    assert module == "host_remove" or "site_id" in MODULES[module]


def test_everybody_who_holds_the_ledger_says_for_whom() -> None:
    """A new writer cannot forget it; who needs not say it stands here with the reason."""
    free = {
        "host_identity.py": "compares by itself",
        "kit_apply.py": "a device that installs itself",
        "workload_retire.py": "after the role has written its files",
    }
    silent = [
        path.name
        for path in sorted((ROOT / "plugins").rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if "with Book(" in line and "site=" not in line and "``" not in line
    ]
    assert set(silent) == set(free)
