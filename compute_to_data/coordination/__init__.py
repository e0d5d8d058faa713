"""How a worker and those who submit tasks find each other: lock, wake-up, heartbeat and capabilities."""
