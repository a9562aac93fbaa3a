# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Find the code that the pipeline shares with the devices.

The pipeline ships inside the collection as ``pipeline/``; the client of the artifact registry is
beside it in ``plugins/module_utils/_registry``, because modules and devices use the same code.
"""

from __future__ import annotations

import sys
from pathlib import Path

_SHARED = str(Path(__file__).resolve().parents[2] / "plugins" / "module_utils")
if _SHARED not in sys.path:
    sys.path.append(_SHARED)
