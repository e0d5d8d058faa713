"""What only a person's own computer has: files of settings, the zones they know, a private zone."""
