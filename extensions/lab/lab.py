#!/usr/bin/env python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Build and remove disposable hosts: the lab site, and the hosts that Molecule tests on."""

from __future__ import annotations

import sys

from labhosts.cli import main

if __name__ == "__main__":
    sys.exit(main())
