"""How the campaign of troubles judges what it has seen."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("aiosmtpd", reason="only the older ansible-core has the mail server here")

from tests.soak.troubles import Mail, Trouble, firing_in, unsettled

FIRING = {("HostUnreachable", "edge4")}


def trouble(seconds: float = 100.0) -> Trouble:
    made = Trouble("device off", "HostUnreachable", "edge4", seconds, lambda: None, lambda: None)
    made.injected, made.undone = 1000.0, 1200.0
    return made


def test_alert_and_mail_in_time_and_an_end_are_all_that_is_wanted() -> None:
    seen = trouble()
    seen.look(set(), [], 1010)
    assert not seen.told
    seen.look(FIRING, [], 1050)
    seen.look_at_page(FIRING, 1062)
    seen.look(FIRING, [Mail(1090.0, "[FIRING 1] HostUnreachable edge4")], 1092)
    assert seen.told
    seen.look_for_its_end(FIRING, 1250)
    assert seen.ended is None
    seen.look_for_its_end(set(), 1300)
    assert not seen.over
    seen.look_at_page(FIRING, 1301)
    seen.look_at_page(set(), 1315)
    assert seen.over
    assert seen.against() == []
    row = seen.row()
    assert (row["alert_after"], row["mail_after"], row["ended_after"]) == (50.0, 90.0, 100.0)
    assert row["drawn_after"] == 62.0


@pytest.mark.parametrize(
    ("firing", "mails", "said"),
    [
        (set(), [], ["no alert came", "no mail came"]),
        (FIRING, [], ["no mail came"]),
        (FIRING, [Mail(1190.0, "[FIRING 1] HostUnreachable edge4")], ["the mail took 190 s"]),
        # What came before, of another host, or to say that it is over, does not count.
        (FIRING, [Mail(990.0, "[FIRING 1] HostUnreachable edge4")], ["no mail came"]),
        (FIRING, [Mail(1050.0, "[FIRING 1] HostUnreachable edge3")], ["no mail came"]),
        (FIRING, [Mail(1050.0, "[RESOLVED] HostUnreachable edge4")], ["no mail came"]),
    ],
)
def test_what_is_lacking_is_said(
    firing: set[tuple[str, str]], mails: list[Mail], said: list[str]
) -> None:
    seen = trouble()
    seen.look(firing, mails, 1060)
    seen.look_at_page(FIRING, 1060)
    seen.look_at_page(set(), 1300)
    seen.look_for_its_end(set(), 1300)
    assert seen.against() == said


def test_an_alert_that_does_not_end_is_said() -> None:
    seen = trouble()
    seen.look(FIRING, [Mail(1090.0, "[FIRING 2] HostUnreachable edge4")], 1092)
    seen.look_at_page(FIRING, 1092)
    seen.look_for_its_end(FIRING, 1300)
    assert seen.against() == ["the alert did not end"]


@pytest.mark.parametrize(
    ("drawn", "after", "said"),
    [
        (set(), set(), ["no alert on the page came"]),
        ({("HostUnreachable", "edge3")}, set(), ["no alert on the page came"]),
        (FIRING, FIRING, ["the alert stayed on the page"]),
    ],
)
def test_what_is_not_drawn_or_stays_drawn_is_said(
    drawn: set[tuple[str, str]], after: set[tuple[str, str]], said: list[str]
) -> None:
    seen = trouble()
    seen.look(FIRING, [Mail(1050.0, "[FIRING 1] HostUnreachable edge4")], 1060)
    seen.look_at_page(drawn, 1060)
    seen.look_for_its_end(set(), 1300)
    seen.look_at_page(after, 1300)
    assert seen.against() == said
    assert seen.over == (after == set())


def test_alerts_are_known_by_name_and_host() -> None:
    told: list[dict[str, Any]] = [
        {"labels": {"alertname": "HostUnreachable", "host": "edge4", "job": "node"}},
        {"labels": {"alertname": "Watchdog"}},
    ]
    assert firing_in(told) == {("HostUnreachable", "edge4"), ("Watchdog", "")}


def test_whoever_was_told_of_an_alert_is_told_its_end_before_it_is_tried() -> None:
    mails = [Mail(900.0, "[FIRING 1] HostUnreachable edge3"), Mail(910.0, "[RESOLVED] Other edge4")]
    assert not unsettled(mails, trouble())
    mails.append(Mail(920.0, "[FIRING 1] HostUnreachable edge4"))
    assert unsettled(mails, trouble())
    assert not unsettled([*mails, Mail(930.0, "[RESOLVED] HostUnreachable edge4")], trouble())
