"""Compute to data for iRODS: run a task on the storage resource that holds its data.

Importing this package costs the standard library only and next to nothing: an iRODS agent
imports it for every connection.
"""

__version__ = "0.1.0"
