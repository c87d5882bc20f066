"""Prompts in, frozen dataset out."""
