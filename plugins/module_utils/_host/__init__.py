# Copyright: the mlops.onprem developers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the ``host_*`` modules stand on: each reads the host, plans, and applies the plan.

Thinking: values in, values out, no look at a host.
    files, files_plan       users, groups, directories and files
    unit, service_plan      services
    packages, apt_words     Debian packages, and what apt says of them
    used                    who else uses packages
    app                     Python applications
    remove_plan             what goes with a role, and what stays
    ledger, steps           what is noted, and what plans are made of
    kit                     what a device installs itself from
    args, errors            arguments that modules share; the package's error

Hands: they look at a host and change it.
    system                  the ledger's file and lock, commands, atomic writes
    files_apply, service_apply, packages_apply, app_apply, remove_apply
    apt, snapshot           dpkg transactions, and what is around them
    used_apply              looks for signs of others (it changes nothing)
    left                    owners of what stays when an account goes
    certificate             the places of the host's key and certificate
    ask, packages_ask       what would be refused (they change nothing)
    settled                 what would be left as it is (it changes nothing)
    inputs, probe           what a service reads, and whether it answers (they change nothing)
    quadlet                 containers as services, and whether podman is there (no change)
    kit_apply               the command with which a device installs itself
    ways                    whether the places a host will talk to are reached (it changes nothing)
"""
