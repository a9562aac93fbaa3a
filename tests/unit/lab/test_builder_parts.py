"""The parts of the builder that need no container."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from labhosts import builder, cli, company, image, machine, podman, state, topology


def test_only_what_leads_to_mirrors_is_taken_from_apt() -> None:
    dump = "\n".join(
        [
            'APT::Architecture "amd64";',
            'Acquire::http::Proxy "http://proxy:3128";',
            'Acquire::https::Proxy::deb.debian.org "DIRECT";',
            'Acquire::http::Proxy::deb.debian.org "http://other:3128";',
            'Acquire::Check-Valid-Until "false";',
            'Acquire::https::Verify-Peer "true";',
            'Acquire::Languages "";',
            'DPkg::Post-Invoke:: "rm -rf /";',
        ]
    )
    assert machine.relevant_apt_options(dump) == [
        'Acquire::http::Proxy "http://proxy:3128";',
        'Acquire::https::Proxy::deb.debian.org "DIRECT";',
        'Acquire::http::Proxy::deb.debian.org "http://other:3128";',
        'Acquire::Check-Valid-Until "false";',
        'Acquire::https::Verify-Peer "true";',
    ]


def test_the_address_on_the_wire_follows_the_ip() -> None:
    assert builder.mac_of("10.203.0.21") == "02:6d:0a:cb:00:15"


def test_the_archive_keeps_modes_and_closes_the_key_directory() -> None:
    data = builder.tar_of(
        {"root/.ssh/authorized_keys": ("k\n", 0o600), "etc/hosts": ("h\n", 0o644)}
    )
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = {member.name: (member.mode, member.isdir()) for member in tar}
    assert found == {
        "root/.ssh": (0o700, True),
        "root/.ssh/authorized_keys": (0o600, False),
        "etc/hosts": (0o644, False),
    }


def test_a_recipe_is_named_by_what_goes_into_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLOPS_DEBIAN_SECURITY_MIRROR", raising=False)
    plain = image.Recipe("http://mirror/debian", (), ())
    assert plain.tag == image.Recipe("http://mirror/debian", (), ()).tag
    assert plain.tag != image.Recipe("http://mirror/debian", (), (("ca.crt", "PEM"),)).tag
    assert plain.sources[-1] == "deb http://mirror/debian-security trixie-security main"


def test_a_recipe_is_of_a_suite_and_of_an_architecture() -> None:
    plain = image.Recipe("http://m/debian", (), ())
    older = replace(plain, suite="bookworm")
    foreign = replace(plain, architecture="arm64")
    assert len({plain.tag, older.tag, foreign.tag}) == 3
    assert older.sources[0] == "deb http://m/debian bookworm main"
    assert older.command(Path("/scratch"))[-5:-3] == ["bookworm", "-"]
    assert "--architectures=arm64" in foreign.command(Path("/scratch"), "/root")
    assert not any("arch" in word for word in plain.command(Path("/scratch")))


def test_a_host_of_another_system_is_another_host() -> None:
    parsed = topology.parse(
        {
            "project": "x",
            "network": "10.9.0.0/24",
            "hosts": {"a": {"ip": "10.9.0.2"}, "b": {"ip": "10.9.0.3"}},
        },
        Path("/x.toml"),
    )
    first = parsed.hosts[0]
    assert first.system == "trixie"
    older = replace(first, system="bookworm")
    assert builder.spec_of(parsed, first) != builder.spec_of(parsed, older)


def test_a_prepared_image_is_another_one_when_its_files_change(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    host = topology.Host("a", "10.9.0.2", prepared="device")
    names = set()
    for text in ("numpy==1\n", "numpy==2\n", "numpy==1\n"):
        file.write_text(text)
        names.add(image.prepared_name(machine.Machine(), host, [file]))
    assert len(names) == 2
    assert all(name.startswith("localhost/mlops-lab-host-device:") for name in names)


def test_the_image_of_another_suite_takes_none_away_that_stands_on_a_current_one() -> None:
    layers = {"base:new": "n", "i-new": "n", "i-database": "n", "i-old": "o", "i-on-old": "o"}
    gone = []

    class Fake:
        def __call__(self, *words: str, **_more: bool) -> machine.Result:
            if words[0] == "images":
                return machine.Result(0, "i-on-old\ni-old\ni-database\ni-new\n", "")
            if words[0] == "rmi":
                gone.append(words[-1])
                return machine.Result(0, "", "")
            found = layers.get(words[-1])
            return machine.Result(0 if found else 125, f"{found}\n" if found else "", "")

    image._remove_superseded(Fake(), ["base:new", "base:not-built"])  # type: ignore[arg-type]
    assert gone == ["i-on-old", "i-old"]


def test_the_image_trusts_the_extra_authorities_of_the_machine() -> None:
    command = image.Recipe("http://m/debian", (), (("ca.crt", "PEM"),)).command(Path("/scratch"))
    upload = "--customize-hook=upload /scratch/ca.crt /usr/local/share/ca-certificates/ca.crt"
    assert upload in command
    assert command[command.index("trixie") + 1] == "-"


def test_a_private_file_is_private_and_only_replaced_when_it_differs(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "secret.yml"
    assert state.write_private(path, "a: 1\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not state.write_private(path, "a: 1\n")
    assert state.write_private(path, "a: 2\n")
    assert [entry.name for entry in path.parent.iterdir()] == ["secret.yml"]


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, ["a.b: 1 -> 2"]),
        ({"a": {"b": 1}}, {"a": {}}, ["a.b: 1 -> None"]),
        ({"a": [1]}, {"a": [1, 2], "c": 3}, ["a: [1] -> [1, 2]", "c: None -> 3"]),
    ],
)
def test_fingerprints_differ_by_place(
    before: dict[str, Any], after: dict[str, Any], lines: list[str]
) -> None:
    assert company.compare(before, after) == lines


def process(
    proc: Path, pid: int, words: str = "/sbin/init", cgroup: str = "0::/\n", state: str = "S"
) -> None:
    (proc / str(pid)).mkdir()
    (proc / str(pid) / "cmdline").write_bytes(words.replace(" ", "\0").encode() + b"\0")
    (proc / str(pid) / "cgroup").write_text(cgroup)
    (proc / str(pid) / "stat").write_text(f"{pid} (init (1) x) {state} 1 1 1 0")


def test_a_host_runs_by_its_own_process_or_its_monitor_only(tmp_path: Path) -> None:
    assert podman.runs("aa11", 10, tmp_path)  # processes are hidden: nobody can say otherwise
    process(tmp_path, 1)
    process(tmp_path, 10, cgroup="4:memory:/\n0::/libpod_parent/libpod-aa11/init.scope\n")
    process(tmp_path, 11, cgroup="0::/user.slice\n")
    process(tmp_path, 12, words="/usr/bin/conmon -c cc33 -u cc33 -n mlops-lab-edge1")
    (tmp_path / "version").write_text("Linux")
    assert podman.runs("aa11", 10, tmp_path)
    assert not podman.runs("bb22", 11, tmp_path)  # the number has gone to somebody else
    assert not podman.runs("bb22", 99, tmp_path)
    process(tmp_path, 13, cgroup="0::/libpod_parent/libpod-dd44/init.scope\n", state="Z")
    assert not podman.runs("dd44", 13, tmp_path)  # dead, and not yet reaped
    assert podman.runs("cc33", 99, tmp_path)  # podman is yet to hear of its end
    assert podman.monitor("mlops-", tmp_path) == 12
    assert podman.monitor("other-", tmp_path) is None


def test_names_of_network_namespaces_that_went_with_their_mounts_get_new_ones() -> None:
    script = f"""
      set -e
      mount -t tmpfs none /run && mkdir /run/netns && cd /run/netns
      touch netns-lost netns-kept other
      unshare --net=netns-kept true
      before=$(stat -c %i netns-kept)
      {podman.REVIVE}
      stat -fc %T netns-lost netns-kept other
      [ $before = $(stat -c %i netns-kept) ]
    """
    root = ["--map-root-user"] if os.geteuid() else []
    private = ["unshare", *root, "-m", "--propagation", "private", "sh", "-c", script]
    answer = subprocess.run(private, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split() == ["nsfs", "nsfs", "tmpfs"]


LAB = """
project = "x"
network = "10.9.0.0/24"
[hosts]
a = {ip = "10.9.0.2"}
b = {ip = "10.9.0.3"}
"""


def clean_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *checkouts: str, verb: str = "clean"
) -> int:
    """How a verb ends where hosts of these checkouts run under the name of our project."""
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lab.toml").write_text(LAB)
    found = [
        {
            "Names": [f"x-{number}"],
            "State": "running",
            "Labels": {
                builder.OWNER_LABEL: str(tmp_path / name / "lab.toml"),
                podman.PROJECT_LABEL: "x",
            },
        }
        for number, name in enumerate(checkouts)
    ]
    monkeypatch.setattr(cli, "machine_lock", nullcontext)
    monkeypatch.setattr(machine.Machine, "has", lambda *_words: True)
    monkeypatch.setattr(podman.Podman, "in_use", True)
    monkeypatch.setattr(podman.Podman, "inspect", lambda *_words: found)
    # What is refused comes before anything is taken away.
    monkeypatch.setattr(podman.Podman, "settle", lambda *_words: pytest.fail("went on"))
    return cli.main([verb, "--topology", str(tmp_path / "ours" / "lab.toml")])


def test_clean_says_whose_hosts_it_leaves_alone_and_ends_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "inventory" / ".state"
    monkeypatch.setattr(state.State, "forget", lambda _self: own.mkdir(parents=True))
    assert clean_beside(tmp_path, monkeypatch, "theirs", "theirs") == 0
    said = capsys.readouterr().out
    assert "No hosts of this checkout are left. Those of project 'x' belong to" in said
    assert f"{tmp_path}/theirs/lab.toml and are left alone" in said
    assert "Images and downloads stay: x still use them" in said
    assert own.exists(), "what this checkout keeps beside its inventory was not forgotten"


def test_down_refuses_hosts_of_another_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert clean_beside(tmp_path, monkeypatch, "theirs", verb="down") == 1
    assert "Take them down there, or replace them with --take-over." in capsys.readouterr().err


def test_clean_does_not_end_well_while_hosts_of_its_own_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert clean_beside(tmp_path, monkeypatch, "ours", "theirs") == 1
    assert f"belong to {tmp_path}/theirs/lab.toml, not to" in capsys.readouterr().err
