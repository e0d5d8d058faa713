"""``c2d``: tasks, datasets and workloads on the command line.

Each module here but :mod:`main`, :mod:`command` and :mod:`output` is one noun: its ``register``
adds that noun's commands. At their top these modules import nothing but the standard library's
small parts and each other, since ``c2d --help`` reads all of them.
"""
