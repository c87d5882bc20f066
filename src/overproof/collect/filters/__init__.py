"""Filters of text datasets, one a file."""
