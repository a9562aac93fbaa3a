"""What was changed, taken out, moved or cut off is found, and its place is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.mlops.onprem.plugins.module_utils._audit.chain import (
    Damage,
    Head,
    Segment,
    hash_of,
    link,
    name_of,
    parse_heads,
    read,
)
from ansible_collections.mlops.onprem.plugins.module_utils._audit.errors import AuditError
from ansible_collections.mlops.onprem.plugins.module_utils._audit.event import (
    Actor,
    Event,
    parse,
    stamp,
)
from ansible_collections.mlops.onprem.plugins.module_utils._audit.store import Store, read_segments

from tests.unit.plugins.module_utils._audit.day import lines_of, whole_day

LINES = lines_of(whole_day())[:12]
FIRST, SECOND = name_of(1), name_of(7)
LAST = Head(12, hash_of(LINES[-1]))


def segments(lines: list[bytes], cut: int = 6) -> list[Segment]:
    halves = (lines[:cut], lines[cut:])
    return [
        Segment(name, b"".join(line + b"\n" for line in half))
        for name, half in zip((FIRST, SECOND), halves)
        if half
    ]


def damage(lines: list[bytes], **more: object) -> Damage | None:
    return read(segments(lines), **more).damage  # type: ignore[arg-type]


def test_what_nobody_touched_is_whole() -> None:
    found = read(segments(LINES))
    assert (found.damage, len(found.events), found.head.seq) == (None, 12, 12)
    assert found.head.hash == hash_of(LINES[-1])


@pytest.mark.parametrize("number", range(1, 13))
def test_a_line_that_was_changed_is_named(number: int) -> None:
    lines = list(LINES)
    lines[number - 1] = lines[number - 1].replace(b'"source":"gateway"', b'"source":"elsewhr"')
    found = damage(lines, known=LAST)
    file, line = (FIRST, number) if number <= 6 else (SECOND, number - 6)
    assert found is not None
    assert (found.file, found.line) == (file, line)
    assert "was changed" in found.what


@pytest.mark.parametrize("number", range(1, 13))
def test_a_line_that_is_missing_is_named(number: int) -> None:
    lines = LINES[: number - 1] + LINES[number:]
    files = segments(lines, 6 if number > 6 else 5)
    found = read(files, known=LAST).damage
    assert found is not None
    if number == 1:
        assert found.what.startswith("it has the number 2, wanted is 1")
    elif number == 12:
        assert found.what == "the lines 12 to 12 are missing at the end"
    else:
        assert found.what.endswith(f"line {number} is missing before it")


def test_lines_that_changed_places_are_named() -> None:
    lines = list(LINES)
    lines[2], lines[3] = lines[3], lines[2]
    assert damage(lines) == Damage(
        FIRST, 3, "it has the number 4, wanted is 3: it is out of its order"
    )


def test_a_line_that_was_doubled_is_named() -> None:
    assert damage([*LINES[:3], *LINES[2:]]) == Damage(
        FIRST, 4, "it has the number 3, wanted is 4: it is out of its order"
    )


def test_a_line_that_was_cut_off_is_named() -> None:
    first, second = segments(LINES)
    found = read([first, Segment(second.name, second.content[:-40])]).damage
    assert found == Damage(SECOND, 6, "the line was cut off")
    found = read([Segment(first.name, first.content[:-40]), second]).damage
    assert found == Damage(FIRST, 6, "it is no JSON")


def test_a_file_that_is_missing_is_named() -> None:
    first, second = segments(LINES)
    found = read([second]).damage
    assert found is not None
    assert found.sentence() == (
        f"{SECOND}: the lines 1 to 6 are missing, and no event says that they became too old"
    )
    found = read([first], known=LAST).damage
    assert found == Damage(FIRST, 6, "the lines 7 to 12 are missing at the end")


def test_all_of_it_missing_is_named() -> None:
    assert read([], known=Head(3, "")).damage == Damage(
        FIRST, 0, "the lines 1 to 3 are missing at the end"
    )


def test_a_line_that_was_added_at_the_end_is_named() -> None:
    lines = [*LINES, link([parse(LINES[0])], LAST)[0][0]]
    assert damage(lines, known=LAST) == Damage(
        SECOND, 7, "it has the number 13, and 12 was written last"
    )


def rewritten(number: int) -> list[bytes]:
    """By somebody who knows how: all hashes from this line on are computed anew."""
    events = [parse(line) for line in LINES]
    events[number - 1] = Event(**{**events[number - 1].__dict__, "actor": Actor("person", "eve")})
    return link(events, Head())[0]


def test_who_computes_all_hashes_anew_is_found_by_the_second_host() -> None:
    heads = [Head(4, hash_of(LINES[3])), Head(10, hash_of(LINES[9]))]
    assert damage(rewritten(5)) is None
    found = damage(rewritten(5), heads=heads)
    assert found is not None
    assert (found.file, found.line) == (SECOND, 4)
    assert found.what.startswith("the second host was told another hash")
    assert damage(LINES, heads=heads) is None


def test_an_end_that_was_cut_off_is_found_by_the_second_host() -> None:
    found = damage(LINES[:8], heads=[Head(10, hash_of(LINES[9]))])
    assert found == Damage(
        SECOND, 2, "the second host was told of line 10; the lines 9 to 10 are missing at the end"
    )


def test_the_second_hosts_log_is_read_for_one_host() -> None:
    line = '{} - - [29/Nov/2026:00:10:00 +0000] "PUT /audit/head/{}/{} HTTP/1.1" {} 0 "-" "-"\n'
    text = line.format("10.0.0.13", 3, "a" * 64, 204)
    text += line.format("10.0.0.14", 4, "b" * 64, 204)
    text += line.format("10.0.0.13", 5, "c" * 64, 403) + "torn"
    assert parse_heads(text, "10.0.0.13") == ([Head(3, "a" * 64)], 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"v": 2}, "its v is not as the schema says"),
        ({"time": "today"}, "its time is not as the schema says"),
        ({"actor": {"kind": "ghost", "name": ""}}, "its actor is not as the schema says"),
        ({"extra": 1}, "it has not exactly the keys"),
    ],
)
def test_a_line_that_is_no_event_is_named(change: dict[str, object], said: str) -> None:
    line = json.dumps({**json.loads(LINES[0]), **change}).encode()
    with pytest.raises(AuditError) as caught:
        parse(line)
    assert str(caught.value).startswith(said)


# On a disk.

NOON = 1_795_867_200.0  # 2026-11-28T12:00:00Z
DAYS = 86400.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "events").mkdir()
    return Store(tmp_path)


def event(now: float, name: str = "ada") -> Event:
    return Event(stamp(now), Actor("person", name), "login.granted")


def whole(store: Store) -> list[Event]:
    found = read(read_segments(store.events), known=store.state.head)
    assert found.damage is None, found.damage
    return list(found.events)


def test_each_day_has_a_file(store: Store) -> None:
    for day in range(3):
        store.append([event(NOON + day * DAYS), event(NOON + day * DAYS + 1)], NOON + day * DAYS)
    assert [path.name for path in store.segments()] == [name_of(1), name_of(3), name_of(5)]
    assert len(whole(store)) == 6


def test_what_is_too_old_goes_and_the_rest_still_hangs_together(store: Store) -> None:
    for day in range(40):
        store.append([event(NOON + day * DAYS, f"p{day}")], NOON + day * DAYS)
    now = NOON + 39 * DAYS + 60
    gone = store.expire(30, now)
    assert gone == [name_of(number) for number in range(1, 11)]
    events = whole(store)
    assert events[0].actor.name == "p10"
    assert [one.details["last"] for one in events if one.action == "audit.expired"] == list(
        range(1, 11)
    )
    text = b"".join(path.read_bytes() for path in store.segments())
    assert b'"p3"' not in text
    assert store.expire(30, now) == []


def test_a_file_that_is_taken_before_its_time_is_missed(store: Store) -> None:
    for day in range(5):
        store.append([event(NOON + day * DAYS)], NOON + day * DAYS)
    store.segments()[0].unlink()
    found = read(read_segments(store.events)).damage
    assert found is not None
    assert "no event says that they became too old" in found.what


def test_old_files_go_before_their_time_only_where_that_is_asked_for(store: Store) -> None:
    for day in range(5):
        store.append([event(NOON + day * DAYS) for _one in range(50)], NOON + day * DAYS)
    assert store.expire(30, NOON + 5 * DAYS) == []
    assert len(store.expire(30, NOON + 5 * DAYS, most_bytes=40_000)) == 3
    assert whole(store)


@pytest.mark.parametrize("written", [0, 1, 30, -1, None])
def test_a_power_loss_between_the_two_steps_loses_and_doubles_nothing(
    store: Store, written: int | None
) -> None:
    store.append([event(NOON), event(NOON + 1)], NOON)
    path = store.segments()[0]
    before = path.stat().st_size
    store.state.memory["place"] = 7
    store.append([event(NOON + 2), event(NOON + 3)], NOON)
    content = path.read_bytes()
    torn = content if written is None else content[: before + written if written >= 0 else written]
    path.write_bytes(torn)
    again = Store(store.directory)
    assert path.read_bytes() == content
    assert again.state.memory["place"] == 7
    again.append([event(NOON + 4)], NOON)
    assert [one.seq for one in whole(again)] == [1, 2, 3, 4, 5]


def test_events_without_a_state_are_not_written_on(store: Store) -> None:
    store.append([event(NOON)], NOON)
    (store.directory / "state.json").unlink()
    with pytest.raises(AuditError, match="which says where they end"):
        Store(store.directory)
