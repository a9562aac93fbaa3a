# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run modules of the collection against real servers on this machine."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest
import yaml
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args

from .postgresql_programs import Programs, installed, unpacked
from .postgresql_server import PostgresqlServer

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "extensions/molecule/shared/s3_server.py"
RunModule = Callable[..., dict[str, Any]]


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture[str]) -> RunModule:
    """Run a module as Ansible does, in this process, and return its result."""

    def run(module: ModuleType, check_mode: bool = False, **arguments: Any) -> dict[str, Any]:
        capsys.readouterr()
        basic._ANSIBLE_ARGS = None
        with (
            patch_module_args({**arguments, "_ansible_check_mode": check_mode}),
            pytest.raises(SystemExit),
        ):
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return run


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def closed_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the company hands over."""
    place = tmp_path_factory.mktemp("s3")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    command = [sys.executable, str(SERVER)]
    state = f"--state={place / 'state'}"
    try:
        subprocess.run(
            [
                *command,
                "start",
                state,
                "--address=127.0.0.1",
                f"--port={port}",
                f"--facts={place / 'facts.yml'}",
            ],
            check=True,
        )
        facts = yaml.safe_load((place / "facts.yml").read_text())
        yield {name.removeprefix("mol_s3_"): value for name, value in facts.items()}
    finally:
        subprocess.run([*command, "stop", state], check=True)


@pytest.fixture(scope="module")
def storage(company: dict[str, Any]) -> Any:
    client = boto3.client(
        "s3",
        endpoint_url=company["endpoint"],
        region_name=company["region"],
        verify=company["ca_file"],
        aws_access_key_id=company["access_key"],
        aws_secret_access_key=company["secret_key"],
    )
    for bucket in ("models", "artifacts"):
        client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket="artifacts", VersioningConfiguration={"Status": "Enabled"})
    return client


@pytest.fixture(scope="session")
def programs_of() -> Iterator[Callable[[int], Programs]]:
    """The programs of a major version of PostgreSQL, unpacked where they are not installed."""
    known: dict[int, Programs] = {}
    with tempfile.TemporaryDirectory(prefix="postgresql-programs-") as place:
        Path(place).chmod(0o755)

        def find(major: int) -> Programs:
            if major not in known:
                known[major] = installed(major) or unpacked(major, Path(place))
            return known[major]

        yield find


@pytest.fixture(scope="session")
def postgresql_of(
    programs_of: Callable[[int], Programs],
) -> Iterator[Callable[..., PostgresqlServer]]:
    """A server of a major version and an encoding, one for all tests."""
    running: dict[tuple[int, str], PostgresqlServer] = {}
    with tempfile.TemporaryDirectory(prefix="postgresql-") as place:
        Path(place).chmod(0o755)

        def start(major: int, encoding: str = "UTF8") -> PostgresqlServer:
            if (major, encoding) not in running:
                programs = programs_of(major)
                where = Path(place) / f"{major}-{encoding}"
                server = PostgresqlServer(where, programs.path, free_port(), encoding)
                server.environment = german(programs, Path(place))
                running[major, encoding] = server
                server.create()
            return running[major, encoding]

        try:
            yield start
        finally:
            for server in running.values():
                server.stop()


def german(programs: Programs, place: Path) -> dict[str, str]:
    """An environment in which a server can speak German, where its packages bring that."""
    if programs.root is None:
        return {}
    locales = place / "locales"
    if not locales.exists():
        locales.mkdir()
        locales.chmod(0o755)
        program = programs.find("localedef")
        assert program is not None
        subprocess.run(
            [program, "-i", "de_DE", "-f", "UTF-8", locales / "de_DE.UTF-8"],
            check=True,
            env={"PATH": "/usr/bin:/bin", "I18NPATH": f"{programs.root}/usr/share/i18n"},
            umask=0o022,  # the server reads it as a user of its own
        )
    return {"LOCPATH": str(locales)}
