#!/usr/bin/env bash
# Python for aarch64 with what the edge program needs, emulated: what a Raspberry Pi would do.
#   export/edge/emulate.sh -m export.edge song.wav --output=voice.wav
# The first run fills build/edge-arm64 (500 MB) from Debian's packages and wheels; nothing is installed on the machine.
# PYTHON is a Python with pip, numpy and setuptools, such as .venv/bin/python. Exit status 3: packages are not to be had.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
here=${EDGE_ARM64:-$root/build/edge-arm64}
python=${PYTHON:-python3}
log=$here.log

fail() { echo "emulate.sh: $2" >&2; exit "$1"; }
# Steps of the set-up: what they say goes to the log. `get` is for those that ask for packages.
get() { "$@" >>"$log" 2>&1 || fail 3 "no packages for aarch64: $(tail -n 1 "$log") (see $log)"; }
step() { "$@" >>"$log" 2>&1 || fail 1 "'$1' failed while aarch64 was set up: $(tail -n 1 "$log") (see $log)"; }
# OPENBLAS_CORETYPE, where it is set, names a core of this machine. Without site (-S), none of its packages are found.
emulated() {
  env -u OPENBLAS_CORETYPE -u PYTHONHOME PYTHONPATH="$here/site:$root" PYTHONDONTWRITEBYTECODE=1 \
    qemu-aarch64-static -L "$here/root" "$here/root/usr/bin/python3" -S "$@"
}

setup() {
  rm -rf "$here"
  mkdir -p "$here"/{apt/lists/partial,cache/archives/partial,root,site,pyworld}
  : >"$here/apt/status"
  # apt with a state of its own, where nothing is installed, finds all that Python for arm64 needs.
  cat >"$here/apt.conf" <<EOF
APT::Architecture "arm64"; APT::Architectures { "arm64"; }; APT::Sandbox::User "";
Dir::State "$here/apt"; Dir::State::status "$here/apt/status"; Dir::Cache "$here/cache";
EOF
  export APT_CONFIG=$here/apt.conf
  get apt-get update
  get apt-get install --yes --download-only --no-install-recommends python3 libpython3-dev libstdc++6
  for package in "$here"/cache/archives/*.deb; do step dpkg -x "$package" "$here/root"; done

  local minor wheels include=$here/root/usr/include
  minor=$(readlink "$here/root/usr/bin/python3") || fail 1 "Debian's Python for arm64 was not found (see $log)"
  minor=${minor#python}
  # ai-edge-litert 2.2 and later crash under emulation.
  wheels=('ai-edge-litert>=2.0.2,<2.1' 'setuptools<82' absl-py numpy soundfile soxr tqdm)
  get "$python" -m pip install --quiet --disable-pip-version-check --target="$here/site" --only-binary=:all: --python-version="$minor" \
    --platform=manylinux2014_aarch64 --platform=manylinux_2_{26,27,28}_aarch64 "${wheels[@]}"

  # pyworld comes as source alone.
  get "$python" -m pip download --quiet --disable-pip-version-check --dest="$here/pyworld" \
    --no-deps --no-binary=:all: --no-build-isolation pyworld
  step tar -xf "$here"/pyworld/pyworld-*.tar.gz -C "$here/pyworld" --strip-components=1
  cp -r "$here"/pyworld/{pyworld,pyworld.egg-info} "$here/site"
  step aarch64-linux-gnu-g++ -O2 -shared -fPIC -w -I"$include/python$minor" -idirafter "$include" \
    -I"$here/site/numpy/_core/include" -I"$here/pyworld/lib/World/src" "$here"/pyworld/pyworld/pyworld.cpp \
    "$here"/pyworld/lib/World/src/*.cpp -o "$here/site/pyworld/pyworld.so"
  step emulated -c 'import ai_edge_litert.interpreter, numpy, pyworld, soundfile, soxr'
  rm -rf "$here"/{apt,cache,pyworld}
  cp "${BASH_SOURCE[0]}" "$here/made-by.sh"
}

missing=()
for tool in apt-get:apt dpkg:dpkg flock:util-linux qemu-aarch64-static:qemu-user-static aarch64-linux-gnu-g++:g++-aarch64-linux-gnu; do
  command -v "${tool%%:*}" >/dev/null || missing+=("${tool#*:}")
done
[ ${#missing[@]} = 0 ] || fail 3 "tools are missing: sudo apt-get install ${missing[*]}"
mkdir -p "$(dirname "$here")"
(
  flock 9
  # Complete, and by this very script.
  cmp -s "${BASH_SOURCE[0]}" "$here/made-by.sh" || { : >"$log"; echo "Setting up aarch64 in $here" >&2; setup; }
) 9>"$here.lock"
[ $# = 0 ] || emulated "$@"
