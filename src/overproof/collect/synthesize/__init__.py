"""Strategies that make prompts, one a file."""
