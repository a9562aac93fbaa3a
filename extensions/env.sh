#!/usr/bin/env bash
# Makes the controller's environment: a virtual environment from a hash-locked list, and the link
# under which Ansible finds this collection. Does nothing when both are up to date.
#   extensions/env.sh REQUIREMENTS [VENV]
set -euo pipefail
cd "$(dirname "$0")/.."
requirements=$1
venv=${2:-.venv}
stamp=$venv/.complete-$(sha256sum "$requirements" | cut -c1-16)

link=.collections/ansible_collections/mlops/onprem
if [ ! -e "$link/galaxy.yml" ]; then
  mkdir -p "$(dirname "$link")"
  ln -sfn ../../.. "$link"
fi
# Beside a playbook Ansible finds it from any directory, without the ansible.cfg of the checkout.
[ -e collections ] || ln -sfn .collections collections
[ -e playbooks/collections ] || ln -sfn ../.collections playbooks/collections
if [ -e "$stamp" ]; then
  exit 0
fi

usable() {
  "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

pick_python() {
  local candidate
  for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
    if usable "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

if ! python=$(pick_python); then
  if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "Found $(python3 --version 2>&1), wanted Python 3.11 or newer; name one with PYTHON=/path/to/python3." >&2
    exit 1
  fi
  echo "Installing python3-venv on this machine (apt-get)."
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv
  python=$(pick_python)
fi

echo "Building the Python environment $venv from $requirements (a few minutes on a slow line)."
if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
  rm -rf "$venv"
  "$python" -m venv "$venv"
fi
if [ ! -x "$venv/bin/uv" ]; then
  "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes \
    --only-binary :all: -r requirements/uv.txt
fi
# uv reads neither pip.conf nor the system's CA store by itself; a company's index and CA count.
index=$("$venv/bin/pip" config get global.index-url 2>/dev/null || true)
UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-${PIP_INDEX_URL:-$index}}
if [ -n "$UV_DEFAULT_INDEX" ]; then export UV_DEFAULT_INDEX; else unset UV_DEFAULT_INDEX; fi
export UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 UV_PYTHON_DOWNLOADS=never UV_NO_CONFIG=1
"$venv/bin/uv" pip sync --quiet --python "$venv/bin/python" --require-hashes "$requirements" \
  --only-binary :all:
# Nine modules out of ten are those of Ansible's collections, of which a run imports a few. What has no
# bytecode, or cannot have any, gets it when it is imported.
"$venv/bin/python" -m compileall -q -j 0 -x '/ansible_collections/|/tests?/' "$venv/lib" >/dev/null || true
rm -f "$venv"/.complete-*
touch "$stamp"
