"""The Python API for people who run tasks. The command ``c2d`` uses it, too.

``compute_to_data.connect()`` opens a :class:`~compute_to_data.client.session.Session`, which acts
with the person's own rights in the zone. Functions that do not depend on the person's computer take
a :class:`~compute_to_data.client.workbench.Workbench`. A program for many users opens one workbench
for each user.
"""
