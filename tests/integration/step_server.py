# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs steps of the pipeline, each in a copy of a process that has loaded their libraries.

For each line of JSON on standard input (``arguments``, ``folder``, ``environment``, and the files
``out`` and ``err``) it runs ``python -m mlops_pipeline`` with them, and prints its exit code. Of a
process of its own a step differs only by what is loaded when it begins.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import traceback
from typing import Any

# What the steps load, the longest first.
import mlflow.onnx  # noqa: F401
import onnx  # noqa: F401
import onnxruntime  # noqa: F401


def step(asked: dict[str, Any]) -> int:
    """Be the step; its exit code."""
    for number, name in ((0, os.devnull), (1, asked["out"]), (2, asked["err"])):
        opened = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, number)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = ["mlops_pipeline", *asked["arguments"]]
    try:
        runpy.run_module("mlops_pipeline", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if not child:
            os._exit(step(json.loads(line)))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(code, flush=True)


if __name__ == "__main__":
    main()
