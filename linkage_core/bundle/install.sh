#!/bin/sh
# Installs Linkage Explorer from this folder, as an ordinary user and without a network.
#
#     sh install.sh [DIR]            into DIR (default: ~/linkage-explorer)
#     sh install.sh --check          checks the files and what would be installed, and installs nothing
#     PYTHON=python3.12 sh install.sh ...     with another Python
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
python=${PYTHON:-python3}
check=no
if [ "${1:-}" = --check ]; then
    check=yes
    shift
fi
target=${1:-${HOME:-.}/linkage-explorer}

say() { printf '%s\n' "$*"; }
fail() {
    say "$*" >&2
    exit 2
}

command -v sha256sum > /dev/null || fail "There is no sha256sum here: install coreutils."
(cd "$here" && sha256sum --check --strict --quiet SHA256SUMS) ||
    fail "A file of this folder is not what was bundled: copy the folder again."
wanted=$(cat "$here/PYTHON")
command -v "$python" > /dev/null || fail "There is no $python here: install Python $wanted, or name it: PYTHON=/path/to/python"
found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ "$found" = "$wanted" ] || fail "$python is Python $found, and this folder is for Python $wanted: name it, PYTHON=python$wanted"

# pip runs from its own wheel, so that neither pip nor python3-venv has to be there before.
pip=$(ls "$here"/wheels/pip-*.whl)
run_pip() { # python, what
    interpreter=$1
    shift
    "$interpreter" "$pip/pip" --isolated --disable-pip-version-check --no-cache-dir "$@"
}

if [ "$check" = yes ]; then
    run_pip "$python" install --dry-run --quiet --ignore-installed --no-index --find-links "$here/wheels" \
        --requirement "$here/requirements.txt" --break-system-packages
    say "Every file is as it was bundled, and Python $found finds all that is needed."
    exit 0
fi
[ ! -e "$target" ] || fail "$target is there already: name a new folder, or remove it."
"$python" -m venv --without-pip "$target"
run_pip "$target/bin/python" install --quiet --no-index --find-links "$here/wheels" --requirement "$here/requirements.txt"
if [ -d "$here/models" ]; then
    mkdir -p "$target/models"
    cp -R "$here/models/." "$target/models/"
    say "Models: set HF_HUB_CACHE=$target/models, so that they are found."
fi
"$target/bin/linkage" verify
say "Installed. Start it with: $target/bin/linkage app"
