"""Installs compute-to-data on an iRODS server, and removes it. It needs only the standard library."""
