"""What a person does with tasks: the Python API, and what ``c2d`` is built on.

``compute_to_data.connect()`` opens a :class:`~compute_to_data.client.session.Session`; everything
is done through it, with that person's own rights in the zone. What it does apart from the person's
own computer takes a :class:`~compute_to_data.client.workbench.Workbench`, which a program for many
users opens for each of them.
"""
