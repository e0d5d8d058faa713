#!/bin/sh
# What Slurm copies to the node and starts there: the program in its arguments, in the same process. Where the node has
# a resident service, its client comes first.
#
#   usage: start.sh SOCKET CLIENT PROGRAM...
socket=$1 client=$2
shift 2
if [ -S "$socket" ] && [ -f "$client" ]; then exec "$1" -I -S "$client" "$socket" "$@"; fi
exec "$@"
