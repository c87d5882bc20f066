"""Recipes: parsed once, rejected loudly, saved resolved beside the results."""
