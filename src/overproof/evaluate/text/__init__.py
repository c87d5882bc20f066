"""Measuring students that talk: scorers, judge, deferral and their certificate."""
