#!/usr/bin/env bash
# Resolves requirements/*.in into hash-locked lists that hold for every Python the controller may have.
#   tests/locks.sh [UV] [--upgrade]
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${1:-uv}
shift || true
lock() {
  "$uv" pip compile --quiet --universal --generate-hashes --no-header "${@:3}" "requirements/$1" -o "$2"
}
lock controller.in requirements.txt --python-version 3.11 "$@"
lock test.in requirements-test.txt --python-version 3.11 --constraint requirements.txt "$@"
lock uv.in requirements/uv.txt --python-version 3.11 --constraint requirements.txt "$@"
lock controller-2.21.in requirements-2.21.txt --python-version 3.12 "$@"
lock test-2.21.in requirements-test-2.21.txt --python-version 3.12 --constraint requirements-2.21.txt "$@"
