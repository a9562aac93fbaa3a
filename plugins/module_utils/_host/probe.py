# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to a running host, each answered by nothing (good) or a sentence (what is wrong)."""

from __future__ import annotations

import base64
import grp
import http.client
import json
import os
import pwd
import socket
import ssl
import stat
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from .errors import HostError
from .system import properties, run

CA_BUNDLE = "/etc/mlops/tls/ca.crt"
OK = 200
LARGEST = 16 << 20  # bytes of an answer; Prometheus lists all its targets in one
QUESTIONS = ("unit", "url", "tcp", "file", "command")


def question_of(check: Mapping[str, Any]) -> str:
    """Which of the questions a check asks; exactly one."""
    asked = [name for name in QUESTIONS if check.get(name)]
    if len(asked) != 1:
        raise HostError(
            f"A check asks exactly one of {', '.join(QUESTIONS)}; this one asks "
            f"{' and '.join(asked) or 'nothing'}: {dict(check)}."
        )
    return asked[0]


def title_of(check: Mapping[str, Any]) -> str:
    """The check in a few words."""
    if check.get("title"):
        return str(check["title"])
    name = question_of(check)
    value = check[name]
    return f"{name} {' '.join(value) if isinstance(value, list) else value}"


def remedy_of(check: Mapping[str, Any]) -> str:
    """What mends a check that failed, or where to read more about it."""
    if check.get("remedy"):
        return str(check["remedy"])
    name = question_of(check)
    if name == "unit":
        return f"read journalctl -u {check['unit']} -n 50"
    if name == "file":
        return "run the site again, which puts it back"
    if name == "command":
        return f"run it on the host: {' '.join(str(word) for word in check['command'])}"
    if check.get("socket"):
        return f"see on the host who listens: ss -lxp src {check['socket']}"
    return f"see on the host who listens: ss -ltnp sport = :{_port(check, name)}"


def _port(check: Mapping[str, Any], name: str) -> int:
    if name == "tcp":
        return address_of(check["tcp"])[1]
    parts = urlsplit(str(check["url"]))
    return parts.port or (443 if parts.scheme == "https" else 80)


def sentence(check: Mapping[str, Any], said: str) -> str:
    """What a failed check is called, what was found, and what mends it."""
    title = f"{check['title']}: " if check.get("title") else ""
    return f"{title}{said.rstrip('.')}; {remedy_of(check)}."


def explained(
    check: Mapping[str, Any], said: str, asked: dict[str, str], timeout: float = 5.0
) -> str:
    """What was found, with the reason that the document named in C(because) gives for it.

    ``asked`` keeps the documents, each of which is asked for once.
    """
    source = check.get("because")
    if not source:
        return said
    url = str(source["url"])
    if url not in asked:
        as_whom = {name: check.get(name) for name in ("ca", "user", "password_file")}
        status, body, _wrong = _fetch({**as_whom, "url": url}, timeout)
        asked[url] = body if status == OK else ""
    try:
        why = reason_in(json.loads(asked[url]), source["say"], source.get("where") or {})
    except ValueError:
        return said
    return f"{said}: {why}" if why else said


def reason_in(value: object, say: str, where: Mapping[str, Any]) -> str:
    """The first text called ``say`` in JSON, in a mapping that says what ``where`` says."""
    inner: Iterable[object] = ()
    if isinstance(value, dict):
        labels = value.get("labels")
        known = {**value, **(labels if isinstance(labels, dict) else {})}
        if value.get(say) and all(str(known.get(key)) == str(where[key]) for key in where):
            return " ".join(str(value[say]).split())
        inner = value.values()
    elif isinstance(value, list):
        inner = value
    return next(filter(None, (reason_in(entry, say, where) for entry in inner)), "")


def ask(check: Mapping[str, Any], timeout: float) -> str:
    """The sentence that says what is wrong, or an empty one."""
    name = question_of(check)
    asks: Mapping[str, Callable[[Mapping[str, Any], float], str]] = {
        "unit": _unit,
        "url": _url,
        "tcp": _tcp,
        "file": _file,
        "command": _command,
    }
    return asks[name](check, timeout)


def ask_until(
    check: Mapping[str, Any],
    deadline: float,
    each: float = 10.0,
    steady: Callable[[], str] | None = None,
) -> str:
    """Ask again until the answer is good or the monotonic ``deadline`` is reached.

    ``steady`` may say, with a sentence, that waiting is in vain.
    """
    pause = 0.1
    while True:
        left = deadline - time.monotonic()
        wrong = ask(check, max(0.5, min(each, left)))
        if not wrong:
            return ""
        if steady is not None:
            hopeless = steady()
            if hopeless:
                return hopeless
        if time.monotonic() + pause >= deadline:
            return wrong
        time.sleep(pause)
        pause = min(1.0, pause * 1.5)


def address_of(text: str) -> tuple[str, int]:
    host, _colon, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise HostError(f"{text!r} is not an address like 127.0.0.1:9090 or [::1]:9090.")
    return host.strip("[]"), int(port)


def _tcp(check: Mapping[str, Any], timeout: float) -> str:
    where = address_of(check["tcp"])
    try:
        socket.create_connection(where, timeout).close()
    except OSError as error:
        return f"nothing answers on {check['tcp']} ({reason(error)})"
    return ""


def reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not accepted: {error.verify_message}"
    if isinstance(error, socket.timeout):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _context(check: Mapping[str, Any]) -> ssl.SSLContext:
    ca = check.get("ca") or (CA_BUNDLE if os.path.exists(CA_BUNDLE) else None)
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if check.get("client_cert"):
        context.load_cert_chain(check["client_cert"], check.get("client_key") or None)
    return context


def _connect(check: Mapping[str, Any], where: tuple[str, int], timeout: float) -> socket.socket:
    """A connection to the address, or to the socket in its place."""
    path = check.get("socket")
    if not path:
        return socket.create_connection(where, timeout)
    raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        raw.settimeout(timeout)
        raw.connect(str(path))
    except BaseException:
        raw.close()
        raise
    return raw


def _account(check: Mapping[str, Any]) -> tuple[dict[str, str], str]:
    """The header with the account that is shown, and why there is none.

    Its password lies in a file of this host, which is not there before a role has placed it.
    """
    if not check.get("user"):
        return {}, ""
    path = str(check.get("password_file") or "")
    try:
        with open(path, encoding="utf-8") as stream:
            password = stream.read().rstrip("\n")
    except OSError as error:
        where = path or "no file"
        why = f"the password of {check['user']} cannot be read from {where} ({reason(error)})"
        return {}, why
    words = base64.b64encode(f"{check['user']}:{password}".encode()).decode()
    return {"Authorization": f"Basic {words}"}, ""


def _fetch(check: Mapping[str, Any], timeout: float) -> tuple[int, str, str]:
    """The status and the body of an answer, or 0, nothing, and why there is none."""
    url = str(check["url"])
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise HostError(f"{url!r} is not an http or https address.")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    name = check.get("server_name") or parts.hostname
    account, wrong = _account(check)
    if wrong:
        return 0, "", wrong
    connection = http.client.HTTPConnection(parts.hostname, port, timeout=timeout)
    try:
        raw = _connect(check, (parts.hostname, port), timeout)
        if parts.scheme == "https":
            try:
                raw = _context(check).wrap_socket(raw, server_hostname=name)
            except BaseException:
                raw.close()
                raise
        connection.sock = raw
        host = name if port in (80, 443) else f"{name}:{port}"
        headers = {
            "Host": host,
            "User-Agent": "mlops.onprem",
            **account,
            **(check.get("headers") or {}),
        }
        path = (parts.path or "/") + ("?" + parts.query if parts.query else "")
        connection.request(check.get("method") or "GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.read(LARGEST).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        where = f" at {check['socket']}" if check.get("socket") else ""
        return 0, "", f"{url}{where} does not answer ({reason(error)})"
    finally:
        connection.close()
    return answer.status, body, ""


def _url(check: Mapping[str, Any], timeout: float) -> str:
    url = str(check["url"])
    wanted: Sequence[int] = check.get("status") or [OK]
    status, body, wrong = _fetch(check, timeout)
    if wrong:
        return wrong
    if status not in wanted:
        expected = " or ".join(str(number) for number in wanted)
        hint = " ".join(body.split())[:200]
        return f"{url} answers {status} instead of {expected}" + (f": {hint}" if hint else "")
    text = check.get("contains")
    if text and text not in body:
        return str(check.get("otherwise") or f"{url} answers without the text {text!r}")
    return ""


def _unit(check: Mapping[str, Any], timeout: float) -> str:
    name = str(check["unit"])
    shown = properties(name, "ActiveState", "SubState", "LoadState", timeout=timeout)
    if shown.get("LoadState") == "not-found":
        return f"the unit {name} does not exist"
    state = shown.get("ActiveState", "unknown")
    if state != (check.get("state") or "active"):
        return f"the unit {name} is {state} ({shown.get('SubState', '')})"
    return ""


def _file(check: Mapping[str, Any], _timeout: float) -> str:
    path = str(check["file"])
    try:
        status = os.stat(path)
    except OSError as error:
        return f"{path} cannot be read ({reason(error)})"
    wrong = []
    mode = check.get("mode")
    if mode and stat.S_IMODE(status.st_mode) != int(str(mode), 8):
        wrong.append(f"mode {stat.S_IMODE(status.st_mode):04o} instead of {mode}")
    if check.get("owner") and _user(status.st_uid) != check["owner"]:
        wrong.append(f"owner {_user(status.st_uid)} instead of {check['owner']}")
    if check.get("group") and _group(status.st_gid) != check["group"]:
        wrong.append(f"group {_group(status.st_gid)} instead of {check['group']}")
    text = check.get("contains")
    try:
        if text and text not in _text_of(path):
            wrong.append(f"no text {text!r}")
    except OSError as error:
        return f"{path} cannot be read ({reason(error)})"
    return f"{path} has {', '.join(wrong)}" if wrong else ""


def _text_of(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as stream:
        return stream.read()


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _command(check: Mapping[str, Any], timeout: float) -> str:
    argv = [str(word) for word in check["command"]]
    ran = run(argv, timeout=timeout)
    if ran.rc != 0:
        return f"{argv[0]} ended with {ran.rc}: {' '.join(ran.said.split())[-300:]}"
    text = check.get("contains")
    if text and text not in ran.out:
        return str(check.get("otherwise") or f"{argv[0]} answers without the text {text!r}")
    return ""
