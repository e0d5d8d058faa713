"""From a request to a queued task."""
