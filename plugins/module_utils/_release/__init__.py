# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signed model releases as OCI artifacts: made by the pipeline, pulled and activated on a device.

``oci``, ``release`` and ``signature`` are values in, values out. ``client`` speaks the registry's
protocol over a transport that is passed in; ``web`` is the transport and ``openssl`` the verifier.
``device`` puts them together for the module ``model_release`` and the command ``mlops-release``.

Standard library only, and imports within the package only and relative: what
``__model_serving_release`` in the role ``model_serving`` lists travels to devices, where the
package is called ``mlops_release``.
"""
