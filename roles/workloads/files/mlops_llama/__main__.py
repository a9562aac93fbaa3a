# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""llama.cpp's server (PyPI ``xllamacpp``) with one model on a unix socket, until told to stop."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ALL_LAYERS = 999


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="mlops_llama", description=__doc__)
    made.add_argument("--model", required=True, help="GGUF file")
    made.add_argument("--socket", required=True)
    made.add_argument("--alias", required=True, help="name of the model for clients")
    made.add_argument("--context", type=int, default=0, help="tokens of one request")
    made.add_argument("--parallel", type=int, default=1, help="requests at the same time")
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--gpu", action="store_true", help="put all layers on the GPU")
    made.add_argument(
        "--option", action="append", default=[], metavar="KEY=VALUE", help="a parameter by its name"
    )
    return made


def converted(value: str, like: Any) -> Any:
    """A value from the command line, of the type that the parameter has."""
    if isinstance(like, bool):
        if value not in ("true", "false"):
            raise ValueError(f"is {value!r}, wanted true or false")
        return value == "true"
    if isinstance(like, int):
        return int(value)
    if isinstance(like, float):
        return float(value)
    if isinstance(like, str):
        return value
    raise ValueError(f"is of a kind that cannot be written here ({type(like).__name__})")


def set_options(parameters: Any, options: Sequence[str]) -> None:
    """Set parameters by name. Raises ValueError with a sentence."""
    for option in options:
        key, _equals, value = option.partition("=")
        if key.startswith("_") or not hasattr(parameters, key):
            raise ValueError(
                f"llama.cpp has no parameter {key!r}; correct options in mlops_workloads."
            )
        try:
            setattr(parameters, key, converted(value, getattr(parameters, key)))
        except ValueError as error:
            raise ValueError(f"The parameter {key} {error}.") from None


def parameters_of(options: argparse.Namespace, made: Any) -> Any:
    """What the server is started with."""
    made.model.path = options.model
    made.model_alias = {options.alias}
    made.hostnames = [options.socket]
    made.port = 0
    made.n_parallel = options.parallel
    if options.context:
        # llama.cpp shares the context among the requests.
        made.n_ctx = options.context * options.parallel
    made.cpuparams.n_threads = options.threads
    made.n_gpu_layers = ALL_LAYERS if options.gpu else 0
    made.endpoint_metrics = True
    made.endpoint_slots = False
    made.ui = False
    made.offline = True
    set_options(made, options.option)
    return made


def main() -> int:
    """Serve until told to stop."""
    options = parser().parse_args()
    import xllamacpp  # noqa: PLC0415

    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_said: stop.set())
    try:
        parameters = parameters_of(options, xllamacpp.CommonParams())
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    Path(options.socket).unlink(missing_ok=True)
    server = xllamacpp.Server(parameters)
    stop.wait()
    del server
    return 0


if __name__ == "__main__":
    sys.exit(main())
