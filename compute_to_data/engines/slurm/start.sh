#!/bin/sh
# What Slurm copies to the node and starts there: the program in its arguments, in the same process.
exec "$@"
