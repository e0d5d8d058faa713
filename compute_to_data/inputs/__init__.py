"""Which data objects are a task's inputs, and which task has claimed a data object."""
