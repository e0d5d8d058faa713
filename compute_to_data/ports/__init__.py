"""What this project needs from a zone (``zone``) and from an engine (``engine``); the adapters live elsewhere.

An adapter raises the errors of ``errors.py`` with the codes iRODS uses (``docs/irods-behaviour.md``).
"""
