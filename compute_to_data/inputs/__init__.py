"""What a task's inputs are, and who has claimed them."""
