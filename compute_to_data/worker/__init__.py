"""The service beside a compute resource that runs its tasks."""
