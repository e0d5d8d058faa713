"""Checks every part that a task needs, from the rule to its results, and says how to repair it.

Run it with ``python3 -m compute_to_data.doctor``, best as root, because root can test what the
service account may do. It changes nothing, except that it creates a folder in each vault and in the
state directory and removes it at once.
"""
