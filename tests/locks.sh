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
# What runs on hosts: for the Python of Debian 13; tests/integration/test_locks.py tries every machine.
role() {
  local files=roles/$1/files
  "$uv" pip compile --quiet --generate-hashes --no-header --python-version 3.13 "${@:2}" \
    --overrides "$files/overrides.txt" "$files/requirements.in" -o "$files/requirements.txt"
}
role model_serving --universal "$@"
role model_registry --python-platform x86_64-manylinux_2_28 --only-binary :all: --no-annotate "$@"
# The steps of the pipeline, and the projects that come along: for every Python of a controller.
lock pipeline.in requirements/pipeline.txt --python-version 3.11 "$@"
lock ../pipeline/sample/digits/requirements.in pipeline/sample/digits/requirements.txt \
  --python-version 3.11 --only-binary :all: --constraint requirements/pipeline.txt "$@"
