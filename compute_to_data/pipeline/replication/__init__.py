"""Replicas of inputs on the compute resource, and the transfers that make them."""
