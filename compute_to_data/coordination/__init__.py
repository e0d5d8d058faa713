"""How a worker and the clients that submit tasks find each other: lock, wake-up, heartbeat, capabilities."""
