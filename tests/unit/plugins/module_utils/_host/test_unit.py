# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Units are sandboxed, literal and restarted by state."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._host import unit
from ansible_collections.mlops.onprem.plugins.module_utils._host.errors import HostError


def service(**changes: Any) -> unit.Service:
    given: dict[str, Any] = {
        "name": "mlops-x",
        "description": "X",
        "command": ("/usr/bin/x", "--flag=a b"),
        "user": "mlops-x",
        **changes,
    }
    return unit.Service(**given)


def lines(**changes: Any) -> list[str]:
    return unit.render(service(**changes)).splitlines()


def test_the_defaults_restart_without_limit_in_our_slice() -> None:
    text = lines()
    for line in (
        "Restart=always",
        "RestartSec=1",
        "StartLimitIntervalSec=0",
        "Slice=mlops.slice",
        "User=mlops-x",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        'ExecStart=/usr/bin/x "--flag=a b"',
        "WantedBy=multi-user.target",
    ):
        assert line in text


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("plain", "plain"),
        ("a b", '"a b"'),
        ("50%", "50%%"),
        ("$HOME", '"$$HOME"'),
        ('say "x"', '"say \\"x\\""'),
        ("back\\slash", "back\\\\slash"),
        ("", '""'),
        ("semi;colon", '"semi;colon"'),
    ],
)
def test_words_of_a_command_are_taken_literally(word: str, written: str) -> None:
    assert unit.command_line(["/bin/x", word]) == "/bin/x " + written


def test_settings_replace_defaults_and_null_leaves_them_out() -> None:
    text = lines(
        settings={
            "Unit": {"After": "postgresql.service"},
            "Service": {
                "MemoryDenyWriteExecute": False,
                "PrivateDevices": None,
                "ExecReload": ["/bin/a", "/bin/b $MAINPID"],
                "LimitNOFILE": 4096,
            },
        }
    )
    assert "After=postgresql.service" in text
    assert "After=network-online.target" not in text
    assert "MemoryDenyWriteExecute=no" in text
    assert not [line for line in text if line.startswith("PrivateDevices")]
    assert [line for line in text if line.startswith("ExecReload")] == [
        "ExecReload=/bin/a",
        "ExecReload=/bin/b $MAINPID",
    ]
    assert "LimitNOFILE=4096" in text


def test_a_dropin_empties_what_would_add_up() -> None:
    given = unit.Service(name="ceph-osd@0", dropin=True, writable=("/var/lib/ceph",))
    text = unit.render(given).splitlines()
    where = text.index("ReadWritePaths=/var/lib/ceph")
    assert text[where - 1] == "ReadWritePaths="
    assert not [line for line in text if line.startswith(("ExecStart", "User=", "WantedBy"))]
    assert given.path == "/etc/systemd/system/ceph-osd@0.service.d/mlops.conf"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": "a/b"}, "'a/b' is not a name for a systemd service"),
        ({"command": ("x",)}, "has to start with an absolute path, not 'x'"),
        ({"command": ()}, "The service mlops-x needs a command"),
        ({"user": ""}, "The service mlops-x needs a user to run as"),
        ({"command": ("/bin/x", "a\nb")}, "has a line break in it"),
        ({"settings": {"Service": {"A b": "1"}}}, "'A b' is not a systemd directive"),
        ({"settings": {"Service": {"X": {}}}}, r"settings\.Service\.X of mlops-x is a dict"),
        ({"settings": {"Service": {"X": "a\nb"}}}, "give a list for several lines"),
        ({"settings": {"Service": "x"}}, r"settings\.Service of mlops-x has to be a dictionary"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(HostError, match=sentence):
        unit.render(service(**changes))


NOW = unit.Inputs("r", "l", restart_changed=100.0, reload_changed=100.0)
SAME = unit.Record("i", "r", "l")


@pytest.mark.parametrize(
    ("running", "record", "reloadable", "action"),
    [
        (unit.Running(active=False), SAME, True, "start"),
        (unit.Running(True, invocation="i", started=50), SAME, True, "nothing"),
        # the configuration changed since the process was started by us
        (
            unit.Running(True, invocation="i", started=50),
            unit.Record("i", "old", "l"),
            True,
            "restart",
        ),
        (
            unit.Running(True, invocation="i", started=50),
            unit.Record("i", "r", "old"),
            True,
            "reload",
        ),
        (
            unit.Running(True, invocation="i", started=50),
            unit.Record("i", "r", "old"),
            False,
            "restart",
        ),
        # it started by itself since: right if nothing changed after that
        (unit.Running(True, invocation="j", started=200), SAME, True, "nothing"),
        (
            unit.Running(True, invocation="j", started=200),
            unit.Record("i", "old", "l"),
            True,
            "nothing",
        ),
        (unit.Running(True, invocation="j", started=50), SAME, True, "restart"),
        (unit.Running(True, invocation="j", started=100), SAME, True, "restart"),
        # a run was killed between start and note
        (unit.Running(True, invocation="i", started=200), None, True, "nothing"),
        (unit.Running(True, invocation="i", started=50), None, True, "restart"),
    ],
)
def test_the_state_decides(
    running: unit.Running, record: unit.Record | None, reloadable: bool, action: str
) -> None:
    assert unit.decide(running, NOW, record, reloadable) == action


def test_a_process_older_than_only_its_reloaded_files_reloads() -> None:
    inputs = unit.Inputs("r", "l", restart_changed=10.0, reload_changed=100.0)
    running = unit.Running(True, invocation="j", started=50)
    assert unit.decide(running, inputs, None, True) == "reload"
    assert unit.decide(running, inputs, None, False) == "restart"
