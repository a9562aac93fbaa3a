# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""KServe's Python server on loopback, with one ONNX model: the release that is active here."""

from __future__ import annotations

import os

# ONNX Runtime reports what it runs to its maker unless told not to before it is imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
