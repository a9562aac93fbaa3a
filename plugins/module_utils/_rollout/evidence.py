# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a device has counted: its page of metrics, and the difference of two looks at it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

from .shapes import Seen

# The text format of Prometheus: name{label="value",...} number [time]
LINE = re.compile(r"([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})?[ \t]+([^ \t]+)(?:[ \t]+-?[0-9]+)?")
LABEL = re.compile(r'\s*([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"\s*,?')
ESCAPED = re.compile(r"\\(.)")
INFO = "mlops_model_info"
REQUESTS = "mlops_model_requests_total"
LATENCY = "mlops_model_request_seconds_bucket"
PREDICTIONS = "mlops_model_predictions_total"
NAMES = (INFO, REQUESTS, LATENCY, PREDICTIONS)
# A device makes its own page; so many buckets it has never.
MOST_BUCKETS = 64


def _plain(told: str) -> str:
    """The value of a label without its escapes, which hardly any has."""
    if "\\" not in told:
        return told
    return ESCAPED.sub(lambda mark: "\n" if mark[1] == "n" else mark[1], told)


def _samples(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Samples of ours; a line that cannot be read is no evidence."""
    for line in text.splitlines():
        if not line.startswith("mlops_model_"):
            continue
        found = LINE.fullmatch(line.strip())
        if found is None or found[1] not in NAMES:
            continue
        try:
            value = float(found[3])
        except ValueError:
            continue
        labels = {key: _plain(told) for key, told in LABEL.findall(found[2] or "")}
        if math.isfinite(value) and value >= 0:
            yield found[1], labels, value


def _apart(cumulative: Mapping[str, int]) -> dict[str, int]:
    """Counts per bucket from counts up to each bound. Empty buckets stay: they are bounds too."""
    found, before = {}, 0
    for label in sorted(cumulative, key=float):
        found[label] = max(0, cumulative[label] - before)
        before = max(before, cumulative[label])
    return found


def _number(label: str) -> bool:
    try:
        return not math.isnan(float(label))
    except ValueError:
        return False


def read_metrics(text: str, host: str, model: str, digest: str, at: float) -> Seen:
    """What a page of metrics says of a release on a device.

    ``answered`` is true where the release has answered a request well, None where it is served but
    was asked nothing yet, and false where another one is served, or none.
    """
    samples = [one for one in _samples(text) if one[1].get("model_name") == model]
    versions = {
        labels.get("model_version", "")
        for name, labels, value in samples
        if name == INFO and value == 1 and labels.get("digest") == digest
    }
    if len(versions) != 1:
        return Seen(host, digest, False, at=at)
    version = versions.pop()
    outcomes: dict[str, int] = {}
    latency: dict[str, int] = {}
    predictions: dict[str, int] = {}
    for name, labels, value in samples:
        if labels.get("model_version", "") != version:
            continue
        if name == REQUESTS:
            outcomes[labels.get("outcome", "")] = int(value)
        elif name == LATENCY and len(latency) < MOST_BUCKETS and _number(labels.get("le", "")):
            latency[labels["le"]] = int(value)
        elif name == PREDICTIONS and len(predictions) < MOST_BUCKETS:
            predictions[labels.get("bucket", "")] = int(value)
    well, errors = outcomes.get("ok", 0), outcomes.get("error", 0)
    answered = True if well else None if not errors else False
    return Seen(
        host=host,
        digest=digest,
        answered=answered,
        requests=well + errors,
        errors=errors,
        latency=_apart(latency),
        predictions=predictions,
        at=at,
        invalid=outcomes.get("invalid", 0),
    )


def _less(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return {label: count - before.get(label, 0) for label, count in now.items()}


def since(before: Seen, now: Seen) -> Seen:
    """What was counted between two looks at one device.

    Counters that went down, or are those of another release, began anew: then all that they say is
    since ``before``. A device that restarted has forgotten the rest; that is less evidence, never
    evidence for either side.
    """
    if before.digest != now.digest:
        return now
    parts = [
        (now.requests, before.requests),
        (now.errors, before.errors),
        (now.invalid, before.invalid),
        *((count, before.latency.get(label, 0)) for label, count in now.latency.items()),
        *((count, before.predictions.get(label, 0)) for label, count in now.predictions.items()),
    ]
    gone = set(before.predictions) - set(now.predictions)
    if any(count < old for count, old in parts) or any(before.predictions[name] for name in gone):
        return now
    # Who answered before, but nothing since, was not asked.
    answered = now.answered
    if answered and now.requests == before.requests:
        answered = None
    return Seen(
        host=now.host,
        digest=now.digest,
        answered=answered,
        requests=now.requests - before.requests,
        errors=now.errors - before.errors,
        latency=_less(now.latency, before.latency),
        predictions=_less(now.predictions, before.predictions),
        at=now.at,
        invalid=now.invalid - before.invalid,
    )
