"""The Slurm engine: Slurm places the jobs, and on the node another engine of ours runs each in its sandbox.

``commands`` has the declared values of the batch system, ``node`` is what runs on a node, and ``notes`` is what both
sides write on the file system that they share. This package imports nothing, because the program
on the node starts for each job.
"""
