"""What stands in the catalog: the records of tasks and workloads, secrets, and how a step is undone."""
