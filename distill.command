#!/bin/sh
# Double-click on macOS, or run on Linux: opens distill's page in a browser. The first time, it makes the environment
# that distill needs, in the folder .venv beside this file.
set -eu
cd "$(dirname "$0")"

find_python() {
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
            echo "$name"
            return
        fi
    done
    echo "distill needs Python 3.11 or newer, and found none. Install it from python.org, then open this file again." >&2
    exit 1
}

if [ ! -e .venv/.installed ]; then
    python=$(find_python)
    echo "Installing distill here, once. This takes a few minutes."
    "$python" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
    touch .venv/.installed
fi
exec .venv/bin/python -m distill web "$@"
