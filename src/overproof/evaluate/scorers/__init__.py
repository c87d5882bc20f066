"""Scorers: pure functions from an answer and what is known to a score in [0, 1]."""
