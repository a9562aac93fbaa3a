// Copyright: the mlops.onprem developers
// GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
// Runs before anything is drawn, so that the page never shows first in other colours.
"use strict";
(() => {
  try {
    const scheme = localStorage.getItem("mlops.start.scheme");
    if (scheme === "light" || scheme === "dark") document.documentElement.dataset.scheme = scheme;
  } catch {
    // A browser that keeps nothing shows what its system prefers.
  }
})();
