# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Disposable Debian hosts with systemd, in containers, reached over SSH."""
