"""The Template Method: one module a step, from a queued task to its final state."""
