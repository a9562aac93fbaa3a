# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Secrets are created once, whoever asks first, and never change or leak afterwards."""

from __future__ import annotations

import base64
import multiprocessing
import stat
import uuid
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.mlops.onprem.plugins.lookup import secret
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.patience import PATIENCE

MP = multiprocessing.get_context("fork")


def ask(inventory: Path, *names: str, more: dict[str, Any] | None = None, **options: Any) -> Any:
    """What the lookup returns for hosts of that inventory."""
    plugin = secret.LookupModule(loader=DataLoader(), templar=None)
    plugin._load_name = "mlops.onprem.secret"
    plugin.set_options = lambda **_kwargs: None
    values = {"kind": "password", "length": 32, "file": None, "create": True, **options}
    plugin.get_option = lambda name, **_kwargs: values[name]
    variables = {"ansible_inventory_sources": [str(inventory)], **(more or {})}
    return plugin.run(list(names), variables)


def secrets_file(inventory: Path) -> Path:
    return inventory / "group_vars" / "all" / "secrets.yml"


def test_a_secret_is_created_once(tmp_path: Path) -> None:
    [first] = ask(tmp_path, "db_password")
    assert len(first) == 32
    assert first.isalnum()
    assert ask(tmp_path, "db_password") == [first]


def test_the_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    ask(tmp_path, "db_password")
    assert stat.S_IMODE(secrets_file(tmp_path).stat().st_mode) == 0o600


def test_nothing_but_the_file_is_left(tmp_path: Path) -> None:
    ask(tmp_path, "one", "two")
    assert [path.name for path in secrets_file(tmp_path).parent.iterdir()] == ["secrets.yml"]


@pytest.mark.parametrize("name", ["all.yml", "all.yaml", "all.json"])
def test_variables_of_the_inventory_are_not_hidden(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "group_vars"
    folder.mkdir()
    (folder / name).write_text("{}\n")
    with pytest.raises(AnsibleError, match=f"found .*{name}.*move it with: mkdir"):
        ask(tmp_path, "db_password")
    assert not (folder / "all").exists()


def test_an_inventory_file_keeps_its_secrets_beside_it(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("all: {}\n")
    ask(inventory, "db_password")
    assert secrets_file(tmp_path).exists()


def test_what_people_wrote_into_the_file_stays(tmp_path: Path) -> None:
    path = secrets_file(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text("# ours\nother: value")
    [value] = ask(tmp_path, "db_password")
    assert path.read_text() == f'# ours\nother: value\ndb_password: "{value}"\n'


@pytest.mark.parametrize("empty", ['""', "", "null"])
def test_an_empty_value_counts_as_missing(tmp_path: Path, empty: str) -> None:
    path = secrets_file(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text(f"other: {empty}\n")
    assert len(ask(tmp_path, "other")[0]) == 32


def test_a_variable_of_the_inventory_wins(tmp_path: Path) -> None:
    assert ask(tmp_path, "db_password", more={"db_password": "given"}) == ["given"]
    assert not secrets_file(tmp_path).exists()


def test_the_default_that_asks_for_itself_is_no_value(tmp_path: Path) -> None:
    itself = "{{ lookup('mlops.onprem.secret', 'db_password') }}"
    assert len(ask(tmp_path, "db_password", more={"db_password": itself})[0]) == 32


@pytest.mark.parametrize(
    ("kind", "length", "looks_right"),
    [
        ("hex", 40, lambda value: len(value) == 40 and int(value, 16) >= 0),
        ("base64", 24, lambda value: len(base64.b64decode(value)) == 24),
        ("access_key", 20, lambda value: len(value) == 20 and value.isalnum() and value.isupper()),
        ("uuid", 0, lambda value: str(uuid.UUID(value)) == value),
        ("cephx", 0, lambda value: len(base64.b64decode(value)) == 28),
        ("private_key", 0, lambda value: load_pem_private_key(value.encode(), None)),
        ("ed25519_key", 0, lambda value: load_pem_private_key(value.encode(), None)),
    ],
)
def test_each_kind_survives_the_file(
    tmp_path: Path, kind: str, length: int, looks_right: Any
) -> None:
    [value] = ask(tmp_path, "thing", kind=kind, length=length)
    assert looks_right(value)
    assert ask(tmp_path, "thing") == [value]


def test_processes_that_ask_at_once_agree(tmp_path: Path) -> None:
    names = [f"secret_{index}" for index in range(8)]

    def child(queue: Any) -> None:
        queue.put(ask(tmp_path, *names))

    queue = MP.Queue()
    children = [MP.Process(target=child, args=(queue,)) for _index in range(12)]
    for process in children:
        process.start()
    answers = [queue.get(timeout=PATIENCE) for _process in children]
    for process in children:
        process.join()
    assert all(answer == answers[0] for answer in answers)
    assert ask(tmp_path, *names) == answers[0]


def test_check_mode_writes_nothing_and_agrees_with_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    monkeypatch.setattr("ansible.constants.DEFAULT_LOCAL_TMP", str(run))
    site = tmp_path / "site"
    site.mkdir()
    first = ask(site, "db_password", more={"ansible_check_mode": True})
    assert ask(site, "db_password", more={"ansible_check_mode": True}) == first
    assert list(site.iterdir()) == []


def test_check_mode_uses_what_exists(tmp_path: Path) -> None:
    value = ask(tmp_path, "db_password")
    assert ask(tmp_path, "db_password", more={"ansible_check_mode": True}) == value


def encrypt(path: Path) -> DataLoader:
    keys = [("default", VaultSecret(b"open sesame"))]
    path.write_bytes(VaultLib(keys).encrypt(path.read_text()))
    loader = DataLoader()
    loader.set_vault_secrets(keys)
    return loader


def test_an_encrypted_file_is_read(tmp_path: Path) -> None:
    [value] = ask(tmp_path, "db_password")
    loader = encrypt(secrets_file(tmp_path))
    assert secret.SecretFile(secrets_file(tmp_path), loader).get("db_password") == value


def test_an_encrypted_file_is_not_added_to(tmp_path: Path) -> None:
    ask(tmp_path, "db_password")
    path = secrets_file(tmp_path)
    loader = encrypt(path)
    before = path.read_bytes()
    with pytest.raises(AnsibleError) as refusal:
        secret.SecretFile(path, loader).get_or_create("new", lambda: "x")
    assert refusal.value.message == (
        f"{path} is encrypted and holds no value for 'new', which is needed now; "
        f"add a line 'new: VALUE' with the command: ansible-vault edit {path}"
    )
    assert path.read_bytes() == before


def test_an_encrypted_file_without_its_password_is_named(tmp_path: Path) -> None:
    ask(tmp_path, "db_password")
    path = secrets_file(tmp_path)
    encrypt(path)
    with pytest.raises(AnsibleError, match=f"cannot read the secrets of the site in {path}"):
        secret.SecretFile(path, DataLoader()).get("db_password")


def test_a_name_that_is_no_variable_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnsibleError, match="cannot name a secret: it is no variable name"):
        ask(tmp_path, "db-password")


def test_a_run_without_inventory_says_what_to_do() -> None:
    with pytest.raises(AnsibleError, match="name one with -i, or set mlops_secrets_file"):
        secret.inventory_directory({"ansible_inventory_sources": ["localhost,"]})


def test_a_list_instead_of_names_and_values_is_refused(tmp_path: Path) -> None:
    path = secrets_file(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text("- a\n")
    with pytest.raises(AnsibleError, match="must hold 'name: value' lines"):
        ask(tmp_path, "db_password")


@pytest.fixture
def of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the run, and a site beside it."""
    (tmp_path / "run").mkdir()
    (tmp_path / "site").mkdir()
    monkeypatch.setattr("ansible.constants.DEFAULT_LOCAL_TMP", str(tmp_path / "run"))
    return tmp_path / "site"


def test_an_assessment_creates_nothing_and_what_it_made_up_is_kept_once_it_said_go(
    of_the_run: Path,
) -> None:
    secret.hold()
    made_up = ask(of_the_run, "db_password")
    assert ask(of_the_run, "db_password") == made_up
    assert list(of_the_run.iterdir()) == []
    secret.let_go()
    assert ask(of_the_run, "db_password") == made_up
    assert secrets_file(of_the_run).exists()


def test_what_cannot_be_kept_is_told_by_the_assessment(of_the_run: Path) -> None:
    path = secrets_file(of_the_run)
    path.parent.mkdir(parents=True)
    path.write_text("$ANSIBLE_VAULT;1.1;AES256\n00\n")
    secret.hold()
    with pytest.raises(AnsibleError):
        ask(of_the_run, "db_password")


@pytest.mark.parametrize("held", [True, False])
def test_a_checkout_that_cannot_be_written_is_told_which_variable_is_missing(
    of_the_run: Path, monkeypatch: pytest.MonkeyPatch, held: bool
) -> None:
    monkeypatch.setattr("os.access", lambda _path, _mode: False)  # root may write anywhere
    if held:
        secret.hold()
    with pytest.raises(AnsibleError, match=r"db_password has no value.*set the variable db_passw"):
        ask(of_the_run, "db_password")
    assert ask(of_the_run, "db_password", more={"db_password": "given"}) == ["given"]
    assert list(of_the_run.iterdir()) == []


def test_a_secret_can_be_looked_for_without_creating_it(of_the_run: Path) -> None:
    assert ask(of_the_run, "db_password", create=False) == [""]
    assert list(of_the_run.iterdir()) == []
    found = ask(of_the_run, "db_password")
    assert ask(of_the_run, "db_password", create=False) == found
