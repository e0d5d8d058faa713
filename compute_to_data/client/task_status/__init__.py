"""How far a task is, and how to say that to a person."""
