# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a candidate of a model that exists: an ONNX file, or a model that MLflow has logged."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import cases as kinds
from . import profile as profiles
from . import source
from .candidate import RELEASE_FOLDER, Candidate, assemble, check_golden, check_name, read_candidate
from .config import Config, Section
from .errors import PipelineError
from .summary import write_summary
from .timing import Timings
from .trial import Limits, trial, workplace

SUMMARY_FILE = "summary.md"
ANSWERS_FILE = "answers.json"
OURS = (RELEASE_FOLDER, f"{RELEASE_FOLDER}.new", SUMMARY_FILE, ANSWERS_FILE)
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Order:
    """What was asked for on the command line."""

    model: str
    name: str
    out: Path
    cases: Path | None = None
    expected: Path | None = None
    accept: bool = False
    tolerance: float | None = None
    profile: Path | None = None
    reference: Path | None = None
    memory_mib: int | None = None
    release_max_mib: int | None = None


def progress(text: str) -> None:
    """Tell a person what takes time."""
    print(f"package: {text}", file=sys.stderr, flush=True)


def limits_of(order: Order, config: Config | None) -> Limits:
    """Limits of the configuration, or those of the command line before them."""
    limits = Limits.of(config.options if config else None)
    return replace(
        limits,
        memory_mib=order.memory_mib or limits.memory_mib,
        release_max_mib=order.release_max_mib or limits.release_max_mib,
    )


def check_out(out: Path) -> None:
    """Refuse a folder that holds something else."""
    if out.exists() and not out.is_dir():
        raise PipelineError(f"{out} is a file; --out wants a folder.")
    others = (
        sorted(each.name for each in out.iterdir() if each.name not in OURS) if out.exists() else []
    )
    if others:
        raise PipelineError(
            f"The folder {out} holds other things ({', '.join(others[:5])}); --out wants a new "
            "folder or one that this command has made."
        )


def example_cases(found: source.Source, inputs: Sequence[Mapping[str, Any]]) -> list[kinds.Case]:
    """Cases of the logged input example, or the sentence that asks for some."""
    if found.example is None:
        wanted = {
            "inputs": [
                {
                    "name": each["name"],
                    "shape": [1 if size == -1 else size for size in each["shape"]],
                    "datatype": each["datatype"],
                    "data": ["…"],
                }
                for each in inputs
            ]
        }
        form = json.dumps(wanted, ensure_ascii=False)
        raise PipelineError(
            "There are no cases to try the model with, and no input example was logged with it. "
            f"Give --cases FILE: a request for this model is {form}; an npz file holds one array "
            "for each input."
        )
    return kinds.from_example(kinds.read_json(found.example), inputs, found.example.name)


def run(config: Config | None, timings: Timings, order: Order) -> dict[str, Any]:
    """Package a model; return the digest of the candidate."""
    name = check_name(order.name)
    check_out(order.out)
    limits = limits_of(order, config)
    options = config.options if config else Section({}, "command line")
    tolerance = (
        order.tolerance if order.tolerance is not None else options.number("tolerance", TOLERANCE)
    )
    with workplace() as place:
        with timings.measure("find the model"):
            progress(f"looking for {order.model}")
            fetched = place.parent / "fetched"
            found = source.find(order.model, fetched, config, limits.release_max_mib)
        settings: dict[str, Any] = {"model_name": name, "tolerance": tolerance}
        with timings.measure("look at the model"):
            most = limits.release_max_mib
            draft = assemble(place / "draft", found.model, {}, settings, most_mib=most)
            progress(f"loading {draft.size / 2**20:.1f} MiB with the code of the model server")
            look = trial(draft, limits, latency=0)
        with timings.measure("answer the cases"):
            chosen = (
                kinds.read_cases(order.cases, look.inputs)
                if order.cases
                else example_cases(found, look.inputs)
            )
            chosen, produced = answered(draft, limits, chosen, order)
        settings.update(
            inputs=list(look.inputs), outputs=list(look.outputs), opsets=dict(draft.model.opsets)
        )
        golden = check_golden({"tolerance": tolerance, "cases": chosen}, "cases")
        with timings.measure("make the profile"):
            profile = profile_of(order, found.model, settings, limits, place.parent)
        with timings.measure("try the release"):
            candidate = assemble(place / RELEASE_FOLDER, found.model, golden, settings, profile)
            progress(f"trying the release with {len(chosen)} cases")
            try:
                tried = trial(candidate, limits, golden=candidate.golden())
            except PipelineError as error:
                raise (unsteady(error) if produced else error) from None
        with timings.measure("write the candidate"):
            page = write_summary(name, found.origin, candidate, tried, golden)
            changed = keep(candidate, order.out, page)
    return {
        "changed": changed,
        "candidate": candidate.digest,
        "model_name": name,
        "folder": str(order.out),
        "summary": str(order.out / SUMMARY_FILE),
        "files": {each.path: each.size for each in candidate.files},
        "bytes": candidate.size,
        "cases": len(chosen),
        "answers": "produced by the model" if produced else "given",
        "profile": "made" if order.reference else "given" if order.profile else "none",
        "inputs": list(tried.inputs),
        "outputs": list(tried.outputs),
        **tried.to_json(),
    }


def unsteady(error: PipelineError) -> PipelineError:
    """What is told where a model does not give its own answers of a moment before."""
    if "Golden case" not in str(error):
        return error
    return PipelineError(
        f"{error} That answer was the model's own of a moment before: it does not answer a request "
        "the same way twice. Export it without random operators (dropout, sampling), or raise "
        "--tolerance if so much may differ."
    )


def profile_of(
    order: Order, model: Path, settings: Mapping[str, Any], limits: Limits, folder: Path
) -> Path | None:
    """The profile that was given, or one that is made of the rows that were given."""
    if order.reference is None:
        return order.profile
    if order.profile is not None:
        raise PipelineError(
            "Found --profile and --reference, wanted one: a profile, or rows to make one of."
        )
    progress(f"making a profile of {order.reference}")
    made = profiles.make(model, settings, profiles.read_rows(order.reference), limits)
    return profiles.write(folder, made)


def answered(
    draft: Candidate, limits: Limits, chosen: list[kinds.Case], order: Order
) -> tuple[list[kinds.Case], bool]:
    """Cases with expected answers, and whether the model itself has given them."""
    if order.expected:
        chosen = kinds.read_expected(order.expected, chosen)
    if all("expected" in case for case in chosen):
        return chosen, False
    if any("expected" in case for case in chosen):
        raise PipelineError(
            "Some cases have an expected answer and some have none; give all or none."
        )
    progress(f"asking the model {len(chosen)} cases")
    tried = trial(draft, limits, requests=[case["request"] for case in chosen], latency=0)
    answers = [kinds.writable(answer, n) for n, answer in enumerate(tried.answers, start=1)]
    if not order.accept:
        order.out.mkdir(parents=True, exist_ok=True)
        path = order.out / ANSWERS_FILE
        path.write_text(
            json.dumps(
                {
                    "cases": [
                        {**case, "expected": answer}
                        for case, answer in zip(chosen, answers, strict=True)
                    ]
                },
                indent=1,
                ensure_ascii=False,
            )
            + "\n",
            encoding="utf-8",
        )
        raise PipelineError(
            f"No expected answers were given. What the model answers is in {path}: look at it, "
            f"then run the same command with --expected {path}, or with --accept-answers."
        )
    return [{**case, "expected": a} for case, a in zip(chosen, answers, strict=True)], True


def keep(candidate: Candidate, out: Path, summary: str) -> bool:
    """Put the candidate where it was asked for; say whether anything was changed."""
    target = out / RELEASE_FOLDER
    if target.is_dir():
        try:
            if read_candidate(target).digest == candidate.digest and (out / SUMMARY_FILE).exists():
                return False
        except PipelineError:
            pass
    fresh = out / f"{RELEASE_FOLDER}.new"
    try:
        out.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(candidate.folder, fresh)
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)
        (out / SUMMARY_FILE).write_text(summary, encoding="utf-8")
    except OSError as error:
        raise PipelineError(f"The candidate cannot be written to {out}: {error}.") from None
    read_candidate(target).require(candidate.digest)
    return True
