"""Python functions that run as tasks."""
