"""Measures how fast the page of `distill web` is, and how much it slows down a training that it shows."""
