"""Measures how fast training, starting and using a model are, each against a reference timed in turn with it."""
