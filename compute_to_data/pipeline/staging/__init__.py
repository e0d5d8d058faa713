"""The steps that bring a task's inputs to the compute resource, within its bounds."""
