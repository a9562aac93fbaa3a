# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One page about a candidate, for the person who lets it go to devices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .candidate import PROFILE_FILE, Candidate
from .trial import Trial


def plain(text: object) -> str:
    """A text that cannot break out of a cell of a table."""
    kept = "".join(each if each.isprintable() else "?" for each in str(text))
    return kept.replace("|", "\\|").replace("<", "&lt;").replace("`", "'")[:200]


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A table in Markdown."""
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(plain(cell) for cell in row)} |" for row in rows),
        "",
    ]


def write_summary(
    name: str,
    origin: str,
    candidate: Candidate,
    tried: Trial,
    golden: Mapping[str, Any],
) -> str:
    """Write the page."""
    model = candidate.model
    opsets = ", ".join(f"{domain or 'ai.onnx'} {n}" for domain, n in sorted(model.opsets.items()))
    latency = tried.latency_ms
    tensors = [
        *(("input", each["name"], each["datatype"], each["shape"]) for each in tried.inputs),
        *(("output", each["name"], each["datatype"], each["shape"]) for each in tried.outputs),
    ]
    profile = any(each.path == PROFILE_FILE for each in candidate.files)
    facts = [
        ("candidate", candidate.digest),
        ("made from", origin),
        ("opset", opsets),
        ("written by", model.producer or "unknown"),
        ("size", f"{candidate.size / 2**20:.2f} MiB in {len(candidate.files)} files"),
        ("load time", f"{tried.load_seconds:.3f} s"),
        ("memory", f"{tried.peak_mib:.0f} MiB at most, above the empty server"),
        ("latency", f"p50 {latency.get('p50')} ms, p95 {latency.get('p95')} ms, this machine"),
        ("cases", f"{len(golden['cases'])}, at most {golden['tolerance']:g} apart"),
        ("largest gap found", f"{max(tried.gaps.values(), default=0.0):.3g}"),
        ("profile of the training data", "yes" if profile else "none"),
        ("tried with", f"ONNX Runtime {tried.runtime}"),
        ("sandbox", tried.to_json()["sandbox"]),
    ]
    return "\n".join(
        [
            f"# {plain(name)}",
            "",
            *table(("what", "found"), facts),
            *table(("tensor", "name", "type", "shape (-1: any)"), tensors),
            *table(
                ("file", "bytes", "sha256"),
                ((each.path, each.size, each.sha256) for each in candidate.files),
            ),
        ]
    )
