"""What the catalog keeps of tasks and workloads, users' secrets, and how to undo a step."""
