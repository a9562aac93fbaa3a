"""The event stream, as the host that keeps it has it."""

from __future__ import annotations

from ansible_collections.mlops.onprem.plugins.module_utils._audit.chain import Segment, read
from ansible_collections.mlops.onprem.plugins.module_utils._audit.event import Event
from testinfra.host import Host

from tests.infra.outside import Client, exposure, secret, spills

STATE = "/var/lib/mlops/audit_log"
LOG = "/var/lib/mlops/nginx/audit"


def events(host: Host) -> list[Event]:
    """All of them, after what is new was added."""
    host.run_expect([0], "systemctl start mlops-audit-collect")
    names = host.check_output(f"ls {STATE}/events").split()
    found = read(
        [Segment(one, host.file(f"{STATE}/events/{one}").content) for one in names],
    )
    assert found.damage is None
    return list(found.events)


def test_who_is_let_in_and_who_is_not_stands_in_the_stream(host: Host) -> None:
    right = Client(host, ("admin", secret("gateway_admin_password")))
    assert right.ask("GET", "/site.json").status_code != 401
    assert Client(host, ("admin", "guessed")).ask("GET", "/site.json").status_code == 401
    assert Client(host, ("nobody-has-this", "x")).ask("GET", "/site.json").status_code == 401
    # Whoever says a name where nobody asks for a password has not logged in.
    assert Client(host, ("pull", "x")).ask("GET", "/healthz").status_code == 200
    told = [
        (one.actor.name, one.action, one.outcome)
        for one in events(host)
        if one.source == "gateway" and one.details.get("service") == "gateway"
    ]
    assert ("admin", "login.granted", "success") in told
    assert ("admin", "login.denied", "denied") in told
    assert ("", "login.denied", "denied") in told
    assert "pull" not in [name for name, _action, _outcome in told]


def test_a_run_of_ansible_that_is_handed_in_is_taken_up(host: Host) -> None:
    record = (
        '{"id":"one","time":"2026-11-28T12:00:00Z","phase":"ended","by":"root@desk",'
        '"playbook":"site.yml","changed":{"mol1":2},"complete":true}'
    )
    host.run_expect([0], f"printf %s '{record}' > {STATE}/inbox/one-ended.json")
    (one,) = [one for one in events(host) if one.details.get("run") == "one"]
    assert (one.action, one.details["changed"]) == ("site.change", {"mol1": 2})
    assert host.check_output(f"ls {STATE}/inbox") == ""


def test_nobody_but_the_collector_reads_what_was_asked_for(host: Host) -> None:
    (path,) = host.check_output(f"ls {LOG}/gateway-*").split()
    for place in (path, f"{STATE}/state.json", "/etc/mlops/audit_log/config.json"):
        assert "Permission denied" in host.run(f"runuser -u nobody -- cat {place}").stderr, place
        assert host.file(place).mode & 0o007 == 0, place


def test_the_collector_reads_no_passwords_and_is_sandboxed(host: Host) -> None:
    tried = host.run("runuser -u mlops-audit -- cat /etc/mlops/gateway/admin.htpasswd")
    assert "Permission denied" in tried.stderr
    assert exposure(host, "mlops-audit-collect") <= 4.0
    assert spills(host, secret("audit_log_secret")) == []


def test_wrong_passwords_are_counted_for_prometheus(host: Host) -> None:
    counted = "/run/mlops-audit-collect/metrics.prom"
    host.run_expect([0], "systemctl start mlops-audit-collect")

    def of(account: str) -> int:
        line = f'mlops_logins_denied_total{{account="{account}"}} '
        rows = host.file(counted).content_string.splitlines()
        return next(int(row[len(line) :]) for row in rows if row.startswith(line))

    before = of("admin")
    assert Client(host, ("admin", "guessed")).ask("GET", "/site.json").status_code == 401
    host.run_expect([0], "systemctl start mlops-audit-collect")
    assert of("admin") == before + 1
    host.run_expect([0], f"runuser -u mlops-nginx -- cat {counted}")
