"""Puts compute-to-data on an iRODS server, and takes it away again. Standard library only."""
