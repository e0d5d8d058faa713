"""What ran, on what, and what came of it: as AVUs and as an RO-Crate."""
