"""Our dashboards in a Grafana of the company's, against its API as the documentation has it.

The server here answers by that documentation and reads dashboards with the types of the official
SDK; a real Grafana was not tried.
"""

from __future__ import annotations

import http.server
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._monitoring import grafana
from ansible_collections.mlops.onprem.plugins.modules import grafana_dashboards

models = pytest.importorskip("grafana_foundation_sdk.models.dashboard")
ROOT = Path(__file__).resolve().parents[4]
FILES = sorted((ROOT / "roles/monitoring/files/dashboards").glob("*.json"))
TOKEN = "glsa_right"


class Documented:
    """Folders, dashboards and search, as Grafana's documentation describes their answers."""

    def __init__(self) -> None:
        self.folders: dict[str, dict[str, Any]] = {}
        self.dashboards: dict[str, tuple[str, dict[str, Any]]] = {}
        self.changes: list[str] = []
        self.newest = 1

    def put(self, uid: str, folder: str, dashboard: dict[str, Any]) -> None:
        self.newest += 1
        kept = {**dashboard, "id": self.newest, "version": self.newest, "schemaVersion": 42}
        self.dashboards[uid] = (folder, kept)

    def answer(self, method: str, path: str, query: str, body: Any) -> tuple[int, Any]:
        if method != "GET":
            self.changes.append(f"{method} {path}")
        if path == "/api/search":
            return self._search(parse_qs(query))
        if path == "/api/dashboards/db":
            return self._keep(body)
        if path == "/api/folders" and method == "POST":
            if body["uid"] in self.folders:
                return 412, {"message": "a folder with the same UID already exists"}
            self.folders[body["uid"]] = {"id": 7, **body, "version": 1}
            return 200, self.folders[body["uid"]]
        kind, uid = re.fullmatch(r"/api/(folders|dashboards/uid)/(.+)", path).groups()  # type: ignore[union-attr]
        if kind == "folders":
            found = self.folders.get(uid)
            if method == "DELETE" and found:
                del self.folders[uid]
            return (200, found) if found else (404, {"message": "Folder not found"})
        if uid not in self.dashboards:
            return 404, {"message": "Dashboard not found"}
        folder, dashboard = self.dashboards[uid]
        if method == "DELETE":
            del self.dashboards[uid]
            return 200, {"title": dashboard["title"], "message": "deleted", "id": 2}
        return 200, {"dashboard": dashboard, "meta": {"folderUid": folder, "version": 2}}

    def _search(self, words: dict[str, list[str]]) -> tuple[int, Any]:
        wanted = words.get("folderUIDs", [None])[0]
        return 200, [
            {"uid": uid, "title": one["title"], "tags": one.get("tags", []), "type": "dash-db"}
            for uid, (folder, one) in self.dashboards.items()
            if wanted in (None, folder)
        ]

    def _keep(self, body: dict[str, Any]) -> tuple[int, Any]:
        sent = body["dashboard"]
        read = models.Dashboard.from_json(sent)
        assert (read.uid, read.title, bool(read.panels)) == (sent["uid"], sent["title"], True)
        if body["folderUid"] not in self.folders:
            return 400, {"message": "folder not found"}
        if sent["uid"] in self.dashboards and not body["overwrite"]:
            return 412, {"status": "name-exists", "message": "it is there"}
        self.put(sent["uid"], body["folderUid"], sent)
        return 200, {"status": "success", "uid": sent["uid"], "version": self.newest}


@pytest.fixture(name="there")
def _there() -> Iterator[tuple[Documented, str]]:
    kept = Documented()

    class Handler(http.server.BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                status, said = 401, {"message": "Invalid API key"}
            else:
                status, said = kept.answer(
                    self.command, parts.path.removeprefix("/grafana"), parts.query, body
                )
            text = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_DELETE = handle_any  # noqa: N815 - as http.server calls them

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield kept, f"http://127.0.0.1:{server.server_address[1]}/grafana"
    server.shutdown()


@pytest.fixture(name="bring")
def _bring(there: tuple[Documented, str]) -> Callable[..., list[str]]:
    def bring(state: str = "present", token: str = TOKEN, files: Any = None) -> list[str]:
        params = {
            "url": there[1],
            "token": token,
            "user": "",
            "password": "",
            "ca_file": "",
            "folder": "MLOps platform",
            "folder_uid": "mlops-onprem",
            "files": [str(path) for path in FILES] if files is None else files,
            "state": state,
        }
        api = grafana_dashboards.Grafana(params)
        steps = grafana_dashboards.steps_of(api, params)
        for step in steps:
            api.ask(step.method, step.path, step.body)
        return [f"{step.method} {step.what}" for step in steps]

    return bring


def test_dashboards_come_stay_and_go(
    there: tuple[Documented, str], bring: Callable[..., list[str]]
) -> None:
    kept, _url = there
    kept.put("theirs", "sales", {"uid": "theirs", "title": "Sales"})
    before = json.dumps(kept.dashboards["theirs"])
    titles = [json.loads(path.read_text())["title"] for path in FILES]
    assert bring() == [
        "POST the folder MLOps platform",
        *[f"POST the dashboard {title}" for title in titles],
    ]
    assert bring() == []
    assert {folder for folder, _one in kept.dashboards.values()} == {"sales", "mlops-onprem"}
    assert bring("absent") == [
        *[f"DELETE the dashboard {title}" for title in titles],
        "DELETE the folder MLOps platform",
    ]
    assert (list(kept.dashboards), kept.folders) == (["theirs"], {})
    assert json.dumps(kept.dashboards["theirs"]) == before
    assert bring("absent") == []


def test_a_changed_dashboard_is_written_anew_and_one_that_is_no_longer_ours_goes(
    there: tuple[Documented, str], bring: Callable[..., list[str]], tmp_path: Path
) -> None:
    bring()
    own = json.loads(FILES[0].read_text())
    changed = tmp_path / "one.json"
    changed.write_text(json.dumps({**own, "refresh": "5m"}))
    others = [json.loads(path.read_text())["title"] for path in FILES[1:]]
    assert bring(files=[str(changed)]) == [
        f"POST the dashboard {own['title']}",
        *[f"DELETE the dashboard {title}" for title in others],
    ]
    assert there[0].dashboards[own["uid"]][1]["refresh"] == "5m"


def test_what_people_put_into_the_folder_keeps_it(
    there: tuple[Documented, str], bring: Callable[..., list[str]]
) -> None:
    bring()
    there[0].put("mine", "mlops-onprem", {"uid": "mine", "title": "Mine"})
    assert bring() == []
    assert "DELETE the folder MLOps platform" not in bring("absent")
    assert list(there[0].dashboards) == ["mine"]
    assert list(there[0].folders) == ["mlops-onprem"]


@pytest.mark.parametrize("folder", ["sales", "mlops-onprem"])
def test_a_dashboard_of_somebody_else_is_never_overwritten(
    there: tuple[Documented, str], bring: Callable[..., list[str]], folder: str
) -> None:
    uid = json.loads(FILES[0].read_text())["uid"]
    there[0].put(uid, folder, {"uid": uid, "title": "Theirs"})
    with pytest.raises(grafana.GrafanaError, match=f"uid {uid} in the folder {folder} that"):
        bring()
    assert there[0].changes == []


def test_a_wrong_token_and_a_wrong_file_are_said(
    there: tuple[Documented, str], bring: Callable[..., list[str]], tmp_path: Path
) -> None:
    with pytest.raises(grafana.GrafanaError, match="HTTP 401: Invalid API key; correct"):
        bring(token="wrong")
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"uid": "a b", "title": "x"}')
    with pytest.raises(grafana.GrafanaError, match="wanted a title, and a uid"):
        bring(files=[str(wrong)])
    assert there[0].changes == []


@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [
        (403, b'{"message": "no"}', "HTTP 403: no; give its service account the role Editor"),
        (502, b"<html>bad gateway", "HTTP 502: <html>bad gateway; read Grafana's own log"),
        (404, b'"x"', 'HTTP 404: "x"; correct monitoring_existing_grafana_url'),
    ],
)
def test_refusals_name_what_mends_them(status: int, answer: bytes, said: str) -> None:
    assert grafana.refusal(status, answer) == said
