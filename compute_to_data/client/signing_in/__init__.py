"""Signing in at a gateway: the person's token, and how they get it in their browser."""
