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
# What runs on hosts: for the Python of Debian 13, and beside it one for each older Python that needs
# other versions of some packages; tests/integration/test_locks.py tries every system and machine.
role() {
  local files=roles/$1/files lock=roles/$1/files/requirements$3.txt
  [ -e "$lock" ] || cp "$files/requirements.txt" "$lock" # keeps to the same versions where it can
  "$uv" pip compile --quiet --generate-hashes --no-header --python-version "$2" "${@:4}" \
    --overrides "$files/overrides.txt" "$files/requirements.in" -o "$lock"
}
role model_serving 3.13 "" --universal "$@"
role model_serving 3.11 -py311 --universal --no-annotate "$@"
role model_serving 3.10 -py310 --universal --no-annotate "$@"
role model_registry 3.13 "" --python-platform x86_64-manylinux_2_28 --only-binary :all: --no-annotate "$@"
role gpu_driver 3.13 "" --universal --no-annotate "$@"
# Engines of workloads; those with CUDA are a site's own.
engine() {
  (
    cd "roles/workloads/files/requirements-$1"
    "$uv" pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.10 \
      requirements.in -o requirements.txt "${@:2}"
  )
}
engine llama_cpp "$@"
# The steps of the pipeline, and the projects that come along: for every Python of a controller.
lock pipeline.in requirements/pipeline.txt --python-version 3.11 "$@"
# What a benchmark compares with, in an environment of its own.
lock drift.in requirements/drift.txt --python-version 3.11 "$@"
lock ../pipeline/sample/digits/requirements.in pipeline/sample/digits/requirements.txt \
  --python-version 3.11 --only-binary :all: --constraint requirements/pipeline.txt "$@"
