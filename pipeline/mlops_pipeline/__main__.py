# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of the steps."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from .config import forget_others, load
from .errors import PipelineError, Refused
from .timing import Timings


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="mlops_pipeline", description=__doc__)
    steps = parser.add_subparsers(dest="step", required=True)
    for name, needs, text in (
        ("prepare", (), "write a version of the data with its manifest"),
        ("train", ("data-version",), "train on prepared data, log to the model registry"),
        ("evaluate", ("data-version", "candidate"), "judge a candidate on held-out data"),
        ("publish", ("candidate",), "register, push and sign a candidate"),
        ("current", (), "find the release that was published last"),
        ("configure", (), "make a release with another configuration of one that exists"),
    ):
        step = steps.add_parser(name, help=text)
        step.add_argument("--config", required=True, help="YAML or JSON file")
        for need in needs:
            step.add_argument(f"--{need}", required=True)
        if name in ("evaluate", "publish"):
            step.add_argument("--run-id", default="", help="run that has logged the candidate")
            step.add_argument("--package", type=Path, help="folder that the step package has made")
            step.add_argument("--judgement", type=Path, help="file of what evaluate has found")
        if name == "publish":
            step.add_argument("--version", default="", help="version, without a model registry")
        if name == "configure":
            step.add_argument("--check", action="store_true", help="only say what it would be")
        if name in ("publish", "current"):
            step.add_argument("--golden", help="file to write the golden answers to")
    package_options(steps.add_parser("package", help="make a candidate of a model that exists"))
    weights_options(steps.add_parser("weights", help="push and sign weights of somebody else"))
    return parser.parse_args(arguments)


def package_options(step: argparse.ArgumentParser) -> None:
    """Read what ``package`` is told; without a registry it needs no configuration."""
    step.add_argument(
        "model", help="ONNX file or folder, models:/name@alias, models:/name/3 or runs:/id/model"
    )
    step.add_argument("--name", required=True, help="name of the model for devices and clients")
    step.add_argument("--out", required=True, type=Path, help="folder for candidate and summary")
    step.add_argument("--cases", type=Path, help="requests: JSON of the protocol, or npz")
    step.add_argument("--expected", type=Path, help="answers to the cases: JSON or npz")
    step.add_argument(
        "--accept-answers", action="store_true", help="take what the model answers as expected"
    )
    step.add_argument("--tolerance", type=float, help="largest gap between answers")
    step.add_argument("--profile", type=Path, help="profile of the training data (JSON)")
    step.add_argument("--reference", type=Path, help="rows to make a profile of (npz)")
    step.add_argument("--memory-mib", type=int, help="memory that a device gives the model")
    step.add_argument("--release-max-mib", type=int, help="largest release that devices take")
    step.add_argument("--config", help="YAML or JSON file; needed to read from the registry")


def weights_options(step: argparse.ArgumentParser) -> None:
    """Read what ``weights`` is told."""
    step.add_argument("source", type=Path, help="GGUF file, or folder with safetensors")
    step.add_argument("--config", required=True, help="YAML or JSON file")
    step.add_argument("--name", required=True, help="name of the model")
    step.add_argument("--version", required=True, help="version, never used before")
    step.add_argument("--cases", type=Path, help="golden requests (JSON)")


def run_package(options: argparse.Namespace, timings: Timings) -> dict[str, Any]:
    """Run the step package."""
    from . import package

    order = package.Order(
        options.model,
        options.name,
        options.out,
        options.cases,
        options.expected,
        options.accept_answers,
        options.tolerance,
        options.profile,
        options.reference,
        options.memory_mib,
        options.release_max_mib,
    )
    return package.run(load(options.config) if options.config else None, timings, order)


def run(options: argparse.Namespace, timings: Timings) -> dict[str, Any]:
    """Run one step. Libraries are loaded by the step that needs them."""
    if options.step == "package":
        return run_package(options, timings)
    config = load(options.config)
    forget_others(options.step, os.environ, config.compares)
    if options.step == "weights":
        from . import weights

        return weights.run(
            config, timings, options.source, options.name, options.version, options.cases
        )
    if options.step == "prepare":
        from . import prepare

        return prepare.run(config, timings)
    if options.step == "train":
        from . import train

        return train.run(config, timings, options.data_version)
    if options.step == "evaluate":
        from . import evaluate

        return evaluate.run(
            config,
            timings,
            options.run_id,
            options.data_version,
            options.candidate,
            options.package,
            options.judgement,
        )
    if options.step == "publish":
        from . import publish

        return publish.run(
            config,
            timings,
            options.run_id,
            options.golden,
            options.candidate,
            options.package,
            options.version,
            options.judgement,
        )
    if options.step == "configure":
        from . import configure

        return configure.run(config, timings, options.check)
    from . import current

    return current.run(config, timings, options.golden)


def main(arguments: list[str] | None = None) -> int:
    """Run a step; print one line of JSON."""
    options = parse(arguments)
    # Whether it compares is known once the configuration is read, and then asked again.
    forget_others(options.step, os.environ, comparing=True)
    warnings.simplefilter("ignore")
    started = time.perf_counter()
    timings = Timings()
    answer: dict[str, Any] = {"step": options.step}
    # Libraries print to standard output; the one line there is ours.
    out, sys.stdout = sys.stdout, sys.stderr
    code = 0
    try:
        answer.update(ok=True, **run(options, timings))
    except PipelineError as error:
        answer.update(ok=False, changed=False, error=str(error))
        if isinstance(error, Refused):
            answer.update(refused=True)
        code = 1
    finally:
        sys.stdout = out
    answer.update(seconds=round(time.perf_counter() - started, 3), timings=timings.seconds)
    print(json.dumps(answer, sort_keys=True))
    if code:
        print(answer["error"], file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
