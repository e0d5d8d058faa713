"""URLs as inputs and outputs of tasks: what they may look like, which ones a site allows, and the transfers.

Submissions import ``address`` and ``access``, which need the standard library only. Only the worker imports the rest,
when a task needs it (the extra ``urls`` of the package).
"""
