#!/usr/bin/env bash
# Debian's Chromium with a font, for the tests of the pages, on a machine that may have neither.
#
#   usage: chromium.sh
#
# Safe to call again. Needs root and apt only for what is missing. Written for Debian 12.
set -euo pipefail

fail() {
    echo "chromium: error: $*" >&2
    exit 1
}

missing=()
for package in chromium fonts-dejavu-core; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ "${#missing[@]}" -gt 0 ] || exit 0
[ "$(id -u)" = 0 ] || fail "${missing[*]} is not installed. As root: apt-get install ${missing[*]}"
echo "chromium: installing ${missing[*]}"
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
{
    apt-get -o DPkg::Lock::Timeout=600 -q update
    apt-get -o DPkg::Lock::Timeout=600 -q install -y --no-install-recommends "${missing[@]}"
} >"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    fail "apt-get failed"
}
