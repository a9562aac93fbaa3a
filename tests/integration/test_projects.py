# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Each sample goes through the same door, in an environment of its own; data come from anywhere."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlops_pipeline import sources
from mlops_pipeline.config import Config, Section
from mlops_pipeline.errors import PipelineError

from .postgresql_server import PostgresqlServer

ROOT = Path(__file__).parents[2]
PIPELINE = ROOT / "pipeline"
SAMPLES = {"breast_cancer": {"accuracy": 0.93}, "digits": {"accuracy": 0.93, "worst_digit": 0.7}}


@pytest.fixture(scope="module")
def engine() -> str:
    """The Python of the pipeline, and beside it the environments of the samples."""
    command = [sys.executable, str(PIPELINE / "environment.py")]
    command += [f"--requirements={ROOT / 'requirements/pipeline.txt'}"]
    command += [f"--project={name}" for name in SAMPLES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["python"])


class Steps:
    """The plain commands, as a person calls them."""

    def __init__(self, python: str, folder: Path, project: str) -> None:
        self._python, self._folder = python, folder
        config = {
            "model_name": project.replace("_", "-"),
            "project": project,
            "data_uri": str(folder / "data"),
            "thresholds": SAMPLES[project],
            "mlflow": {"url": (folder / "mlruns").as_uri()},
        }
        (folder / "c.json").write_text(json.dumps(config))

    def __call__(self, step: str, **options: str) -> dict[str, Any]:
        command = [self._python, "-m", "mlops_pipeline", step, "--config", "c.json"]
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}", value]
        environment = {
            **os.environ,
            "PYTHONPATH": str(PIPELINE),
            "MLFLOW_ALLOW_FILE_STORE": "true",
            "XDG_STATE_HOME": str(self._folder / "state"),
        }
        done = subprocess.run(
            command, cwd=self._folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.stdout, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_every_sample_goes_through_the_same_door(engine: str, tmp_path: Path, name: str) -> None:
    steps = Steps(engine, tmp_path, name)
    prepared = steps("prepare")
    assert prepared["ok"], prepared
    assert set(prepared["rows"]) == {"train", "test"}
    again = steps("prepare")
    assert (again["changed"], again["data_version"]) == (False, prepared["data_version"])
    trained = steps("train", data_version=prepared["data_version"])
    assert trained["ok"], trained
    assert trained["candidate"].startswith("sha256:")
    assert trained["profile"] == "made"
    handed = {"run_id": trained["run_id"], "data_version": prepared["data_version"]}
    judged = steps("evaluate", candidate=trained["candidate"], **handed)
    assert judged["ok"], judged
    assert judged["trial"]["profile"] == "watched"
    for metric, least in SAMPLES[name].items():
        assert judged["metrics"][metric] >= least
    refused = steps("evaluate", candidate="sha256:" + "0" * 64, **handed)
    assert "are not the ones that the earlier step has handed on" in refused["error"]


def test_the_sample_of_scikit_learn_shares_the_environment_of_the_engine(engine: str) -> None:
    program = """
import sys
from mlops_pipeline.project import load_project, python_of
print(python_of(load_project("breast_cancer")) == sys.executable)
print(python_of(load_project("digits")) == sys.executable)
"""
    done = subprocess.run(
        [engine, "-c", program],
        env={**os.environ, "PYTHONPATH": str(PIPELINE)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["True", "False"]


def test_an_object_store_gives_its_own_versions(
    company: dict[str, Any], storage: Any, tmp_path: Path
) -> None:
    for number in (1, 2):
        storage.put_object(Bucket="artifacts", Key="raw/a/rows.csv", Body=b"x\n" * number)
    storage.put_object(Bucket="artifacts", Key="rawer/other.csv", Body=b"not below raw/")
    options = {
        "source": "s3://artifacts/raw",
        "s3": {key: company[key] for key in ("endpoint", "region", "ca_file")},
    }
    account = {
        "PIPELINE_S3_ACCESS_KEY": company["access_key"],
        "PIPELINE_S3_SECRET_KEY": company["secret_key"],
    }
    origin, (entry,) = sources.fetch(Config(Section(options, "c"), account), tmp_path)
    assert (origin, entry.path, entry.size) == ("s3://artifacts/raw", "a/rows.csv", 4)
    newest = storage.head_object(Bucket="artifacts", Key="raw/a/rows.csv")["VersionId"]
    assert entry.version == newest
    assert (tmp_path / "a/rows.csv").read_bytes() == b"x\nx\n"


@pytest.fixture(scope="module")
def database(postgresql_of: Callable[..., PostgresqlServer]) -> PostgresqlServer:
    """The company's database with an account that may read."""
    server = postgresql_of(15)
    server.sql(
        "DROP TABLE IF EXISTS churn",
        "CREATE TABLE churn (id int, age float8, note text)",
        "INSERT INTO churn SELECT n, n / 3.0, CASE WHEN n % 2 = 0 THEN 'a,\"b\"' END"
        " FROM generate_series(1, 5000) n",
        "GRANT SELECT, INSERT ON churn TO clerk",
        database="company",
    )
    return server


def asked(server: PostgresqlServer, query: str, **changes: Any) -> Config:
    options = {
        "host": "127.0.0.1",
        "port": server.port,
        "database": "company",
        "user": "clerk",
        "ca_file": server.ca_file,
        "query": query,
        **changes,
    }
    secret = {"PIPELINE_SOURCE_PASSWORD": "clerk-secret"}
    return Config(Section({"source": {"postgresql": options}}, "c"), secret)


def test_a_query_becomes_rows(database: PostgresqlServer, tmp_path: Path) -> None:
    config = asked(database, "SELECT id, age, note FROM churn ORDER BY id;")
    origin, (entry,) = sources.fetch(config, tmp_path)
    assert origin == f"postgresql://127.0.0.1:{database.port}/company"
    with (tmp_path / entry.path).open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[:3] == [["id", "age", "note"], ["1", repr(1 / 3), ""], ["2", repr(2 / 3), 'a,"b"']]
    assert len(rows) == 5001
    (tmp_path / "again").mkdir()
    assert sources.fetch(config, tmp_path / "again")[1] == [entry]
    # By a cursor of the server, which hands out so many rows and no more at a time.
    assert f"FETCH FORWARD {sources.BATCH}" in database.log


@pytest.mark.parametrize(
    ("query", "changes", "sentence"),
    [
        ("INSERT INTO churn VALUES (1) RETURNING id", {}, "syntax error|read-only"),
        (
            "WITH x AS (INSERT INTO churn VALUES (1) RETURNING id) SELECT * FROM x",
            {},
            "read-only|data-modifying",
        ),
        ("SELECT 1; DELETE FROM churn", {}, "syntax error|multiple commands"),
        ("SELECT * FROM accounts", {}, "permission denied for table accounts"),
        ("SELECT pg_sleep(60)", {"timeout": 1}, "canceling statement due to statement timeout"),
        ("SELECT 1", {"user": "nobody"}, "password authentication failed"),
        ("SELECT 1", {"ca_file": "/etc/hostname"}, "did not let us read as clerk"),
    ],
)
def test_what_does_not_only_read_is_refused(
    database: PostgresqlServer, tmp_path: Path, query: str, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(PipelineError, match=sentence) as refusal:
        sources.fetch(asked(database, query, **changes), tmp_path)
    assert str(refusal.value).startswith(f"The database company on 127.0.0.1:{database.port}")
    assert "clerk-secret" not in str(refusal.value)
    assert database.sql("SELECT count(*) FROM churn", database="company") == [(5000,)]
