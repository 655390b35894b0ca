"""Measures how close reconstructions are to held-out sounds, at how many kbit/s."""
