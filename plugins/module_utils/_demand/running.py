# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a planned workload runs: ``mlops_workloads[].run``, parsed once, refused in a sentence.

What a workload needs says where it goes; ``run`` says what is started there. Without it a workload
is planned and left to others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Union

from .._findings.shape import (
    ShapeError,
    each,
    field,
    known_keys,
    mapping,
    optional,
    shown,
)
from .._findings.shape import text as any_text
from .quantities import MOST_MIB, at_most, counted, quantity, switch
from .words import NO_WORDS, name_of, one_of, words

ONNX, LLAMA_CPP, VLLM, EXTERNAL = "onnx", "llama_cpp", "vllm", "external"
ENGINES = (ONNX, LLAMA_CPP, VLLM, EXTERNAL)
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
IMAGE = re.compile(r"[a-z0-9][a-z0-9._:/-]{0,254}@sha256:[0-9a-f]{64}")
ACCOUNT = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
SPAN = re.compile(r"([0-9]{1,6})\s*(s|min|h|d)")
SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
# What nginx, systemd, podman and Slurm would read as the end of a line, or steers a terminal.
UNWRITABLE = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029]")
ADDRESS = re.compile(
    r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?)(:([0-9]{1,5}))?"
    r"(/[A-Za-z0-9._~%!*+,=:@/-]*)?"
)
URL_PATH = re.compile(r"/[A-Za-z0-9._~%!*+,=:@/?&-]*")
PROVIDER = re.compile(r"[A-Z][A-Za-z]{1,40}ExecutionProvider")
# Who mails go to: one address, or an account of the host that sends them.
MAIL = re.compile(r"[^\s@<>,;:\"]{1,64}(@[A-Za-z0-9][A-Za-z0-9.-]{0,252})?")
# What the platform tells an engine itself, from the plan and the release that was verified.
DECIDED: Mapping[str, tuple[str, ...]] = {
    LLAMA_CPP: (
        *("model", "model_alias", "hostnames", "port", "n_parallel", "n_ctx", "offline"),
        *("endpoint_metrics", "endpoint_slots", "ui"),
    ),
    VLLM: (
        *("model", "model-tag", "tokenizer", "served-model-name", "uds", "host", "port", "config"),
        *("max-num-seqs", "max-model-len", "revision", "trust-remote-code", "download-dir"),
        *("hf-config-path", "lora-modules", "speculative-config", "api-key"),
    ),
}
MOST_TOKENS, MOST_REQUESTS, MOST_PARALLEL = 16_000_000, 1_000_000, 4096


@dataclass(frozen=True)
class ServingRun:
    """An engine that answers requests with a signed release, or an endpoint of somebody else.

    ``version`` is 0 where ``digest`` names the release. ``teams`` are those that may call it;
    none named are all. ``requests_per_minute`` holds for each key, 0 is no limit. ``options`` are
    settings in the engine's own words.
    """

    engine: str
    model: str = ""
    version: int = 0
    digest: str = ""
    context_tokens: int = 0
    parallel: int = 1
    execution_provider: str = ""
    options: tuple[tuple[str, str], ...] = ()
    url: str = ""
    health: str = ""
    metrics: str = ""
    ca_file: str = ""
    teams: tuple[str, ...] = ()
    requests_per_minute: int = 0
    request_mib: float = 4.0


@dataclass(frozen=True)
class JobRun:
    """A job of a team for the scheduler. Spans of time are seconds; 0 is the partition's own."""

    command: tuple[str, ...]
    team: str
    account: str = ""
    directory: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    time_limit: int = 0
    requeue: bool = True
    mail: str = ""


@dataclass(frozen=True)
class UserRun:
    """An allocation in which a person works, given back when idle. Spans are seconds."""

    team: str
    account: str
    time_limit: int = 0
    idle: int = 0


@dataclass(frozen=True)
class DatasetRun:
    """A directory on the planned mount, with a quota of the planned size where one can be set."""

    owner: str = ""
    group: str = ""
    mode: str = "0750"
    quota: bool = True


@dataclass(frozen=True)
class ContainerRun:
    """An image of somebody else, by digest, as a quadlet of podman.

    ``port`` is where it answers on loopback, 0 for none; ``volumes`` are (path on the host, path
    in the container).
    """

    image: str
    port: int = 0
    health: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    volumes: tuple[tuple[str, str], ...] = ()
    command: tuple[str, ...] = ()
    teams: tuple[str, ...] = ()


Run = Union[ServingRun, JobRun, UserRun, DatasetRun, ContainerRun]


def text(value: object) -> str:
    """A text of one line."""
    found = any_text(value)
    if UNWRITABLE.search(found):
        raise ShapeError(f"must be one line without signs that steer, but is {shown(found)}")
    return found


def _lines(value: object) -> str:
    """A text of any number of lines."""
    found = any_text(value)
    if "\0" in found:
        raise ShapeError(f"must be a text without NUL, but is {shown(found)}")
    return found


def span(value: object) -> int:
    """A span of time in seconds, as people write it: ``90min``, ``4h``."""
    said = text(value)
    found = SPAN.fullmatch(said)
    if found is None or not int(found[1]):
        raise ShapeError(f"must be a span such as 30min, 4h or 2d, but is {shown(value)}")
    return int(found[1]) * SECONDS[found[2]]


def _matching(pattern: re.Pattern[str], wanted: str) -> Callable[[Any], str]:
    def check(value: object) -> str:
        found = text(value)
        if not pattern.fullmatch(found):
            raise ShapeError(f"must be {wanted}, but is {shown(found)}")
        return found

    return check


def _absolute(value: object) -> str:
    found = text(value)
    if not found.startswith("/") or ".." in found.split("/"):
        raise ShapeError(f"must be a path from the root without .., but is {shown(found)}")
    return found


def _address(value: object) -> str:
    found = text(value)
    told = ADDRESS.fullmatch(found)
    if told is None:
        raise ShapeError(
            f"must be an address such as https://host:8443/path, but is {shown(found)}"
        )
    if told[4] and not 0 < int(told[4]) < 65536:
        raise ShapeError(f"has the port {told[4]}; wanted is one from 1 to 65535")
    return found


_url_path = _matching(URL_PATH, "the path of an address, such as /health")
_provider = _matching(PROVIDER, "a provider of ONNX Runtime, such as CUDAExecutionProvider")
_mail = _matching(MAIL, "one address such as anna@example.com, or an account")


def _pairs(
    pattern: re.Pattern[str], wanted: str, told_as: Callable[[Any], str]
) -> Callable[[Any], tuple[tuple[str, str], ...]]:
    def check(value: object) -> tuple[tuple[str, str], ...]:
        found = []
        for key, told in mapping(value).items():
            if not pattern.fullmatch(key):
                raise ShapeError(f"has the key {shown(key)}, which is no {wanted}")
            said = str(told).lower() if isinstance(told, bool) else told
            try:
                found.append((key, told_as(said)))
            except ShapeError as error:
                raise error.within(key) from None
        return tuple(sorted(found))

    return check


_account = _matching(ACCOUNT, "the name of a Unix account")
_environment = _pairs(VARIABLE, "name of an environment variable", _lines)
_options = _pairs(re.compile(r"[A-Za-z0-9_.-]{1,64}"), "word", text)


def _command(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        raise ShapeError("must be a list of words, such as [python, train.py], but is a text")
    found = each(value, _lines)
    if not found:
        raise ShapeError("must have at least one word")
    return found


def _volumes(value: object) -> tuple[tuple[str, str], ...]:
    found = []
    for key, told in mapping(value).items():
        try:
            found.append((_absolute(key), _absolute(told)))
        except ShapeError as error:
            raise error.within(key) from None
    return tuple(sorted(found))


# Keys that have no meaning with every engine, and the engines that read them.
ONLY_FOR: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("url", "health", "metrics", "ca_file"), (EXTERNAL,)),
    **dict.fromkeys(("model", "version", "digest", "parallel"), (ONNX, LLAMA_CPP, VLLM)),
    **dict.fromkeys(("options", "context_tokens"), (LLAMA_CPP, VLLM)),
    "execution_provider": (ONNX,),
}


def _of_engine(given: Mapping[str, Any], engine: str) -> None:
    """Refuse what the engine would not read."""
    for key, engines in ONLY_FOR.items():
        if given.get(key) is not None and engine not in engines:
            where = (
                f"engine {' or '.join(engines)}" if len(engines) < 3 else "an engine of this site"
            )
            raise ShapeError(f"is only for {where}; the engine is {engine}", key)


def _own_options(value: object, engine: str) -> tuple[tuple[str, str], ...]:
    """Settings in the engine's own words, without those that the platform sets.

    A later one would go before that of the platform, such as for another model than the one whose
    signature was verified. vLLM takes names with either sign, and the beginning of one.
    """
    found = _options(value)
    for key, _told in found:
        word = key.replace("_", "-") if engine == VLLM else key
        decided = DECIDED.get(engine, ())
        if word in decided or (engine == VLLM and any(one.startswith(word) for one in decided)):
            raise ShapeError("is set by the platform, from the plan and the release", key)
    return found


def _serving(given: Mapping[str, Any]) -> Run:
    known_keys(
        given,
        (
            "engine",
            "model",
            "version",
            "digest",
            "context_tokens",
            "parallel",
            "execution_provider",
            "options",
            "url",
            "health",
            "metrics",
            "ca_file",
            "teams",
            "requests_per_minute",
            "max_request",
        ),
    )
    engine = field(given, "engine", one_of(ENGINES))
    _of_engine(given, engine)
    if engine == EXTERNAL:
        if field(given, "url", _address).startswith("http:") and given.get("ca_file"):
            raise ShapeError("is only for an address with https", "ca_file")
    else:
        field(given, "model", name_of)
        if (given.get("version") is None) == (given.get("digest") is None):
            raise ShapeError("must have one of version and digest", "version")
    return ServingRun(
        engine=engine,
        model=optional(given, "model", name_of, ""),
        version=optional(given, "version", counted(1, 10**9), 0),
        digest=optional(given, "digest", _matching(DIGEST, "sha256: and 64 hex digits"), ""),
        context_tokens=optional(given, "context_tokens", counted(1, MOST_TOKENS), 0),
        parallel=optional(given, "parallel", counted(1, MOST_PARALLEL), 1),
        execution_provider=optional(given, "execution_provider", _provider, ""),
        options=optional(given, "options", lambda value: _own_options(value, engine), ()),
        url=optional(given, "url", _address, ""),
        health=optional(given, "health", _url_path, ""),
        metrics=optional(given, "metrics", _url_path, ""),
        ca_file=optional(given, "ca_file", _absolute, ""),
        teams=optional(given, "teams", words, NO_WORDS),
        requests_per_minute=optional(given, "requests_per_minute", counted(1, MOST_REQUESTS), 0),
        request_mib=optional(
            given, "max_request", at_most(MOST_MIB, quantity, "can be meant, in MiB"), 4.0
        ),
    )


def _job(given: Mapping[str, Any]) -> Run:
    known_keys(
        given,
        (
            "command",
            "team",
            "account",
            "directory",
            "environment",
            "time_limit",
            "requeue",
            "mail",
        ),
    )
    return JobRun(
        command=field(given, "command", _command),
        team=field(given, "team", name_of),
        account=optional(given, "account", _account, ""),
        directory=optional(given, "directory", _absolute, ""),
        environment=optional(given, "environment", _environment, ()),
        time_limit=optional(given, "time_limit", span, 0),
        requeue=optional(given, "requeue", switch, True),
        mail=optional(given, "mail", _mail, ""),
    )


def _user(given: Mapping[str, Any]) -> Run:
    known_keys(given, ("team", "account", "time_limit", "idle"))
    return UserRun(
        team=field(given, "team", name_of),
        account=field(given, "account", _account),
        time_limit=optional(given, "time_limit", span, 0),
        idle=optional(given, "idle", span, 0),
    )


def _dataset(given: Mapping[str, Any]) -> Run:
    known_keys(given, ("owner", "group", "mode", "quota"))
    return DatasetRun(
        owner=optional(given, "owner", _account, ""),
        group=optional(given, "group", _account, ""),
        mode=optional(
            given, "mode", _matching(re.compile(r"0[0-7]{3}"), 'a mode such as "0750"'), "0750"
        ),
        quota=optional(given, "quota", switch, True),
    )


def _container(given: Mapping[str, Any]) -> Run:
    known_keys(given, ("image", "port", "health", "environment", "volumes", "command", "teams"))
    return ContainerRun(
        image=field(given, "image", _matching(IMAGE, "an image by digest, name@sha256:…")),
        port=optional(given, "port", counted(1, 65535), 0),
        health=optional(given, "health", _url_path, ""),
        environment=optional(given, "environment", _environment, ()),
        volumes=optional(given, "volumes", _volumes, ()),
        command=optional(given, "command", _command, ()),
        teams=optional(given, "teams", words, NO_WORDS),
    )


def parse_run(value: object, kind: str) -> Run:
    """What is started for a workload of a kind. Raises ShapeError with the field that is wrong."""
    given = mapping(value)
    if kind == "serving" and "image" in given:
        return _container(given)
    parse = {
        "serving": _serving,
        "training": _job,
        "batch": _job,
        "user": _user,
        "dataset": _dataset,
        "service": _container,
    }[kind]
    return parse(given)
