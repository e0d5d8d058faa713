"""Where a client reads what a task's program wrote."""
