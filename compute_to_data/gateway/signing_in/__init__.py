"""Who has signed in: people, their tokens, and how wrong passwords are slowed down."""
