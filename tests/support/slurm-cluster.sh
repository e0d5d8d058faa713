#!/usr/bin/env bash
# A Slurm cluster of two nodes, n1 and n2, on this machine, for the tests of the engine slurm.
#
#   usage: slurm-cluster.sh [start | stop | node-start NAME | controller-start]
#
# Safe to call again: what runs is left alone. Needs root, and apt only for what is missing. Written for Debian 12
# without an init system. The settings lie in /etc/slurm/slurm.conf, and are replaced only if they are ours.
set -euo pipefail

readonly STATE="${TMPDIR:-/tmp}/compute-to-data-slurm"
readonly SETTINGS=/etc/slurm/slurm.conf
readonly MARK="# made by compute-to-data's tests"
readonly WAIT=60

say() { printf 'slurm-cluster: [%3ds] %s\n' "$SECONDS" "$*"; }

fail() {
    say "error: $*" >&2
    exit 1
}

# Output is shown only when the command fails.
quietly() {
    local log="$STATE/$1.log"
    shift
    "$@" >"$log" 2>&1 || {
        tail -n 40 "$log" >&2
        fail "'$*' failed; the whole output is in $log"
    }
}

install_packages() {
    local missing=() package
    for package in slurm-wlm munge; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    quietly apt-update apt-get -o DPkg::Lock::Timeout=600 -q update
    quietly apt-install apt-get -o DPkg::Lock::Timeout=600 -q install -y --no-install-recommends "${missing[@]}"
}

write_settings() {
    if [ -e "$SETTINGS" ] && ! head -n 1 "$SETTINGS" | grep -qF "$MARK"; then
        fail "$SETTINGS is not ours: this machine has a Slurm of its own"
    fi
    local host processors memory
    host="$(hostname -s)"
    processors=4 # more than there may be (config_overrides)
    memory=8000
    mkdir -p "$(dirname "$SETTINGS")"
    cat >"$SETTINGS.new" <<CONF
$MARK
ClusterName=tests
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
StateSaveLocation=$STATE/controller
SlurmdSpoolDir=$STATE/%n
SlurmctldPidFile=$STATE/slurmctld.pid
SlurmdPidFile=$STATE/slurmd-%n.pid
SlurmctldLogFile=$STATE/slurmctld.log
SlurmdLogFile=$STATE/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=10000
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=5
SlurmdTimeout=10
MessageTimeout=10
MinJobAge=300
Epilog=$STATE/epilog
NodeName=n[1-2] NodeHostname=$host NodeAddr=127.0.0.1 Port=[17001-17002] CPUs=$processors RealMemory=$memory
PartitionName=main Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=n[1-2] MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
CONF
    mv "$SETTINGS.new" "$SETTINGS" # a command that reads it meanwhile sees all of it
    [ -e "$STATE/epilog" ] || printf '#!/bin/sh\nexit 0\n' >"$STATE/epilog"
    chmod 755 "$STATE/epilog"
}

# A pid file may outlive its process, and its number may belong to another program since.
runs() { # the program, its pid file
    local pid
    pid="$(cat "$2" 2>/dev/null)" && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ] &&
        ! grep -q '^State:.*Z' "/proc/$pid/status"
}

# Jobs of an earlier run, which ended with its machine or was killed, would be queued again and hold the processors.
forget_earlier_jobs() {
    runs slurmctld "$STATE/slurmctld.pid" || runs slurmd "$STATE/slurmd-n1.pid" || runs slurmd "$STATE/slurmd-n2.pid" ||
        rm -rf "$STATE/controller" "$STATE/n1" "$STATE/n2" "$STATE"/*.pid
    mkdir -p "$STATE/controller"
}

start_munge() {
    [ -e /etc/munge/munge.key ] || quietly munge-key /usr/sbin/mungekey --create
    install -d -o munge -g munge -m 755 /run/munge
    install -d -o munge -g munge -m 700 /var/lib/munge /var/log/munge
    if ! munge -n >/dev/null 2>&1; then
        say "starting munged"
        rm -f /run/munge/munge.socket.2*
        setpriv --reuid=munge --regid=munge --clear-groups setsid /usr/sbin/munged --force 9>&-
    fi
    munge -n >/dev/null || fail "munged does not answer"
}

start_controller() {
    runs slurmctld "$STATE/slurmctld.pid" && return 0
    say "starting slurmctld"
    setsid slurmctld 9>&- </dev/null >/dev/null 2>&1
}

start_node() {
    runs slurmd "$STATE/slurmd-$1.pid" && return 0
    say "starting slurmd -N $1"
    mkdir -p "$STATE/$1"
    setsid slurmd -N "$1" 9>&- </dev/null >/dev/null 2>&1
}

start() {
    install_packages
    write_settings
    forget_earlier_jobs
    start_munge
    start_controller
    start_node n1
    start_node n2
    local deadline=$((SECONDS + WAIT))
    until [ "$(sinfo --noheader --format=%D --partition=main --states=idle,mixed,allocated 2>/dev/null)" = 2 ]; do
        [ "$SECONDS" -lt "$deadline" ] || {
            sinfo -R >&2 || true
            tail -n 20 "$STATE"/*.log >&2
            fail "the nodes are not ready after ${WAIT}s"
        }
        scontrol update nodename=n1,n2 state=resume 2>/dev/null || true
        sleep 0.3
    done
    say "ready: $(sinfo --version), $(sinfo --noheader --Node --partition=main --format='%N %T' | tr '\n' ' ')"
}

stop() {
    local name file
    for name in slurmd-n1 slurmd-n2 slurmctld; do
        file="$STATE/$name.pid"
        runs "${name%-n?}" "$file" && kill "$(cat "$file")" || true
    done
}

[ "$(id -u)" -eq 0 ] || fail "run this script as root"
mkdir -p "$STATE"
exec 9>"$STATE/lock"
flock 9
case "${1:-start}" in
    start) start ;;
    stop) stop ;;
    controller-start) start_controller ;;
    node-start) start_node "$2" ;;
    *) fail "usage: slurm-cluster.sh [start | stop | controller-start | node-start NAME]" ;;
esac
