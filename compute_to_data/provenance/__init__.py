"""Describes a finished task, its inputs and its outputs, as AVUs and as an RO-Crate."""
