"""``c2d``: tasks, datasets and workloads on the command line.

Each module here is one noun, except :mod:`start`, :mod:`main`, :mod:`command`, :mod:`output` and :mod:`exits`: its
``register`` adds that noun's commands. At the top these modules import only small parts of the
standard library and each other, because ``c2d --help`` imports all of them.
"""
