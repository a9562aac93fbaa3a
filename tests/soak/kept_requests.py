# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sample of requests that a site keeps, from a client's request to the end of its time.

A part of the campaign ``troubles``, while its lines ask two devices: their samples are in the
bucket of the object store, fetched by the control host's timer; what the model's entry names is
left out or hashed, equal values equally on both devices; samples of a day that is over are deleted
with all their versions, and those of today are not.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

DROPPED, HASHED, TWIN = "mean_radius", "mean_texture", "mean_perimeter"
"""Left out; hashed; and one that is neither, by which rows of both devices are known again."""
SAMPLE = {"rate": 0.05, "days": 1, "redact": {DROPPED: "drop", HASHED: "hash", "id": "hash"}}
INPUT = "features"
HASH = re.compile(r"[0-9a-f]{32}")
PATIENCE_SECONDS = 900.0
# With the code and the configuration of the unit, by the Python that it runs with.
READ = """
command=$(systemctl show --property=ExecStart --value mlops-samples)
python=${command#*path=}; python=${python%% *}
"$python" -IB - <<'END'
import json, sys
from pathlib import Path
sys.path.insert(0, "/etc/mlops/samples")
import mlops_samples as unit
store = unit.Store(unit.Settings.read(Path("/etc/mlops/samples/config.json")).store)
{work}
END
"""
FETCH = """
found = {}
for page in store._client.get_paginator("list_objects_v2").paginate(Bucket=store._bucket):
    for one in page.get("Contents", ()):
        answer = store._client.get_object(Bucket=store._bucket, Key=one["Key"])
        found[one["Key"]] = answer["Body"].read().decode()
print(json.dumps(found))
"""
# Twice, and once deleted as somebody would: two versions and a mark.
GROW_OLD = """
store._client.put_bucket_versioning(
    Bucket=store._bucket, VersioningConfiguration={{"Status": "Enabled"}}
)
for text in (b"one", b"two"):
    store.put({key!r}, text)
store._client.delete_object(Bucket=store._bucket, Key={key!r})
print(len(list(store._versions({key!r}))))
"""
COUNT = "print(len(list(store._versions({key!r}))))"


class Host(Protocol):
    """Whoever runs a script on a host of the site."""

    def on(self, host: str, script: str) -> str: ...


def _ask(site: Host, work: str) -> str:
    return site.on("ctl1", READ.replace("{work}", work.strip()))


def stored(site: Host) -> dict[str, list[dict[str, Any]]]:
    """The lines of every object, by its name."""
    found = json.loads(_ask(site, FETCH))
    return {key: [json.loads(line) for line in text.splitlines()] for key, text in found.items()}


def of_devices(keys: Sequence[str], model: str, day: str) -> set[str]:
    """The devices that objects of a model and day are of."""
    pattern = re.compile(rf"{re.escape(model)}/{day}/(.+)-[0-9a-f]{{32}}\.jsonl")
    return {found[1] for found in map(pattern.fullmatch, keys) if found}


def against(
    lines: Mapping[str, Sequence[Mapping[str, Any]]], rows: Sequence[tuple[Sequence[float], str]]
) -> list[str]:
    """What speaks against what was stored, by device, for rows that clients sent."""
    found = []
    everything = [line for each in lines.values() for line in each]
    inputs = [line["inputs"][INPUT] for line in everything]
    if any(DROPPED in values for values in inputs):
        found.append(f"{DROPPED} was stored")
    plain = [value for value in (one.get(HASHED) for one in inputs) if not _hashed(value)]
    if plain:
        found.append(f"{HASHED} was stored as {plain[0]!r}")
    names = [line["id"] for line in everything if not _hashed(line["id"])]
    if names:
        found.append(f"the id of a request was stored as {names[0]!r}")
    textures: dict[float, set[float]] = {}
    for (_radius, hashed, twin, *_more), _label in rows:
        textures.setdefault(round(twin, 3), set()).add(hashed)
    hashes: dict[float, set[str]] = {}
    for values in inputs:
        hashes.setdefault(round(values[TWIN], 3), set()).add(str(values.get(HASHED)))
    # Whoever checks a release asks too: of those rows nothing is known here.
    known = {value: seen for value, seen in hashes.items() if value in textures}
    if not known:
        found.append("nothing that these clients sent was stored")
    if any(len(seen) > len(textures[value]) for value, seen in known.items()):
        found.append(f"one value of {HASHED} has several hashes")
    return found


def _hashed(value: Any) -> bool:
    return isinstance(value, str) and HASH.fullmatch(value) is not None


def watched(
    site: Host, model: str, devices: Sequence[str], rows: Sequence[tuple[Sequence[float], str]]
) -> dict[str, Any]:
    """Wait for samples of these devices, judge them, and have others end their time."""
    started = time.monotonic()
    today = datetime.now(UTC).date()
    found: dict[str, list[dict[str, Any]]] = {}
    wanted = set(devices)
    while time.monotonic() - started < PATIENCE_SECONDS:
        found = stored(site)
        there = of_devices(list(found), model, today.isoformat())
        if wanted <= there:
            break
        time.sleep(5)
    lines = {
        device: [line for key, each in found.items() if f"/{device}-" in key for line in each]
        for device in devices
    }
    lacking = sorted(device for device, each in lines.items() if not each)
    said = [f"nothing of {', '.join(lacking)} came"] if lacking else []
    said += against(lines, rows)
    row = {
        "trouble": "none: a sample of the requests is kept",
        "after": round(time.monotonic() - started, 1),
        "objects": len(found),
        "lines": {device: len(each) for device, each in lines.items()},
        "example": next((line for each in lines.values() for line in each), None),
    }
    return {**row, **retention(site, model, today.isoformat(), said)}


def retention(site: Host, model: str, today: str, said: list[str]) -> dict[str, Any]:
    """Have samples of a day that is over deleted by the unit, and none of today."""
    over = (datetime.fromisoformat(today) - timedelta(days=2)).date().isoformat()
    key = f"{model}/{over}/edge1-{'0' * 32}.jsonl"
    put = int(_ask(site, GROW_OLD.format(key=key)))
    before = set(stored(site))
    site.on("ctl1", "systemctl start mlops-samples")
    left, kept = int(_ask(site, COUNT.format(key=key))), set(stored(site))
    if put != 3 or left:
        said = [*said, f"of {put} versions of a day that is over {left} are left"]
    if before - kept:
        said = [*said, f"{sorted(before - kept)[0]} was deleted too"]
    return {"versions_of_a_day_that_is_over": put, "left_of_them": left, "against": said}
