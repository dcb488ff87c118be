# Sourced by the scripts beside it: makes a virtual environment with this package in it.

# ensure_venv DIR REQUIREMENT: e.g. ensure_venv .venv-test '.[dev]', from the repository root.
# Installs again only when pyproject.toml, the requirement or the interpreter has changed.
ensure_venv() {
    local dir=$1 requirement=$2 python=${PYTHON:-python3} stamp
    if ! command -v "$python" >/dev/null; then
        echo "error: no interpreter '$python'; set PYTHON to a Python 3.11 or newer" >&2
        return 1
    fi
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "error: jaxopt_lab needs Python 3.11 or newer, '$python' is older; set PYTHON" >&2
        return 1
    fi
    stamp=$("$python" - "$PWD" "$requirement" <<'EOF'
import hashlib, sys
checksum = hashlib.sha256(open("pyproject.toml", "rb").read()).hexdigest()
print(checksum, *sys.argv[1:], sys.base_prefix, sys.version.split()[0])
EOF
    ) || return 1
    if [ -f "$dir/.installed" ] && [ "$(cat "$dir/.installed")" = "$stamp" ]; then
        return 0
    fi
    echo "installing $requirement into $dir (some minutes the first time)" >&2
    "$python" -m venv --clear "$dir" || return 1
    # Modules are compiled when they are first imported (see below): compiling all of them takes as
    # long again as installing them.
    "$dir/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile \
        --editable "$requirement" || return 1
    printf '%s\n' "$stamp" >"$dir/.installed"
}

# What an import compiles is kept for the next one, whatever the shell says: installing compiles none.
unset PYTHONDONTWRITEBYTECODE
