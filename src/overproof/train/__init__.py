"""Soft labels in, students out."""
