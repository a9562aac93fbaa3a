# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the planner's answers about random sites against an independent exact solver.

    .venv-test/bin/python tests/benchmarks/fuzz_planner.py --sites 5000 --first 1000

Needs OR-Tools, which is in the environment of the tests. Prints one JSON object; exit code 1 if a
verdict, a certificate or a statement about a lost host was wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / ".collections")]

from tests.exact_sites import check, packing_site, random_site  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sites", type=int, default=5000)
    parser.add_argument("--first", type=int, default=1000, help="seed of the first site")
    parser.add_argument("--seconds", type=float, default=2.0, help="of the planner, for a site")
    parser.add_argument("--packings", action="store_true", help="processors, memory, disk only")
    given = parser.parse_args()
    site = packing_site if given.packings else random_site
    started, wrong = time.monotonic(), []
    for number, seed in enumerate(range(given.first, given.first + given.sites), 1):
        wrong += check(seed, time.monotonic, given.seconds, site)
        if number % 250 == 0:
            print(f"{number} of {given.sites} sites, {len(wrong)} wrong", file=sys.stderr)
    seconds = round(time.monotonic() - started, 1)
    print(json.dumps({"sites": given.sites, "wrong": wrong, "seconds": seconds}, indent=1))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
