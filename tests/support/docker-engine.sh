#!/usr/bin/env bash
# A Docker engine and a base image for the tests, on a machine that may have neither.
#
#   usage: docker-engine.sh
#
# Safe to call again, and by several callers at once: what is there is left alone.
# Needs root and apt only for what is missing. Written for Debian 12 without an init system.
set -euo pipefail

readonly BASE_IMAGE=compute-to-data/base:bookworm
readonly PREFERRED_IMAGE=python:3.11-slim-bookworm
readonly STATE="${TMPDIR:-/tmp}/compute-to-data-docker"
readonly LOG="$STATE/dockerd.log"
readonly HOST_CA=/etc/ssl/certs/ca-certificates.crt
readonly ENGINE_WAIT=60
readonly PULL_WAIT=15

say() { printf 'docker-engine: [%3ds] %s\n' "$SECONDS" "$*"; }

fail() {
    say "error: $*" >&2
    exit 1
}

engine_answers() { timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# Output is shown only when the command fails: a log of this script is a few lines long.
quietly() {
    local log="$STATE/$1.log"
    shift
    "$@" >"$log" 2>&1 || {
        tail -n 40 "$log" >&2
        fail "'$*' failed; the whole output is in $log"
    }
}

require_root_and_apt() {
    [ "$(id -u)" -eq 0 ] || fail "$1, which takes root: run this script as root"
    command -v apt-get >/dev/null || fail "$1, and there is no apt-get to do it with"
}

install_packages() {
    local missing=() package
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] \
            || missing+=("$package")
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    require_root_and_apt "packages must be installed (${missing[*]})"
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    quietly apt-update apt-get -o DPkg::Lock::Timeout=600 -q update
    # policy-rc.d is not consulted without an init system; dockerd is started below.
    quietly apt-install apt-get -o DPkg::Lock::Timeout=600 -q install -y \
        --no-install-recommends "${missing[@]}"
}

# Without an init system nobody has mounted the control groups that limits need.
mount_control_groups() {
    mountpoint -q /sys/fs/cgroup || {
        say "mounting the control groups"
        mount -t cgroup2 none /sys/fs/cgroup
    }
}

# A daemon that was killed leaves its pid file, and another one would not start beside it. A zombie
# (nobody reaps where there is no init system) and another program under that number count as gone.
forget_killed() {
    local file="$1" name="$2" pid
    [ -e "$file" ] || return 0
    pid="$(cat "$file")"
    if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$name" ] && ! grep -q '^State:.*Z' "/proc/$pid/status"; then
        return 0
    fi
    say "removing $file: no $name runs as $pid"
    rm -f "$file"
}

start_engine() {
    install_packages docker.io debootstrap ca-certificates iptables
    engine_answers && return 0 # the package's own service may have started it
    [ "$(id -u)" -eq 0 ] || fail "the engine must be started: run this script as root"
    mount_control_groups
    forget_killed /var/run/docker.pid dockerd
    forget_killed /var/run/docker/containerd/containerd.pid containerd
    say "starting dockerd, log in $LOG"
    # Its own session, and not our lock: it outlives this script and its terminal.
    setsid nohup "$(command -v dockerd)" >"$LOG" 2>&1 </dev/null 9>&- &
    local pid=$! deadline=$((SECONDS + ENGINE_WAIT))
    echo "$pid" >"$STATE/dockerd.pid"
    until engine_answers; do
        if ! kill -0 "$pid" 2>/dev/null || [ "$SECONDS" -ge "$deadline" ]; then
            tail -n 30 "$LOG" >&2
            fail "dockerd did not answer within ${ENGINE_WAIT}s; the end of $LOG is above"
        fi
        sleep 0.3
    done
}

# The usual image where a registry can be reached: it is what users build on.
tag_preferred_image() {
    docker image inspect "$PREFERRED_IMAGE" >/dev/null 2>&1 \
        || timeout "$PULL_WAIT" docker pull -q "$PREFERRED_IMAGE" >/dev/null 2>&1 \
        || return 1
    docker tag "$PREFERRED_IMAGE" "$BASE_IMAGE"
    say "$BASE_IMAGE is $PREFERRED_IMAGE"
}

bootstrap_image() {
    install_packages debootstrap ca-certificates
    require_root_and_apt "a base image must be bootstrapped"
    local root
    root="$(mktemp -d "$STATE/rootfs.XXXXXX")"
    # shellcheck disable=SC2064  # the folder's name is wanted as it is now
    trap "rm -rf -- '$root'" EXIT
    say "no $PREFERRED_IMAGE to be had: bootstrapping Debian bookworm"
    quietly debootstrap debootstrap --variant=minbase \
        --include=python3,python3-venv,ca-certificates bookworm "$root"
    # The host may trust a proxy's certificate that pip, inside, has to trust as well.
    cp -L "$HOST_CA" "$root$HOST_CA"
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/* \
        "$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/locale/*
    say "importing $BASE_IMAGE"
    tar -C "$root" --numeric-owner -c . | docker import \
        --change 'CMD ["python3"]' \
        --change "ENV LANG=C.UTF-8 PIP_CERT=$HOST_CA SSL_CERT_FILE=$HOST_CA REQUESTS_CA_BUNDLE=$HOST_CA" \
        - "$BASE_IMAGE" >/dev/null
}

# Some tests start a worker of an account with subordinate ids.
need_mapping_program() {
    command -v newuidmap >/dev/null || [ "$(id -u)" -ne 0 ] || install_packages uidmap
}

main() {
    mkdir -p "$STATE"
    # One caller at a time: two bootstraps would race for the package lists and the tag.
    exec 9>"$STATE/lock"
    flock 9
    need_mapping_program
    if engine_answers; then
        say "an engine already answers"
    else
        start_engine
    fi
    say "engine $(docker version --format '{{.Server.Version}}')"
    if docker image inspect "$BASE_IMAGE" >/dev/null 2>&1; then
        say "$BASE_IMAGE is there"
    else
        tag_preferred_image || bootstrap_image
    fi
    say "ready: $(docker image inspect --format '{{.Id}} {{.Size}} bytes' "$BASE_IMAGE")"
}

main "$@"
