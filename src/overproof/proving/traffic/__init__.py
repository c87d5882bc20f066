"""Simulated API traffic with known truth: honest classes that are hard, attacks as published."""
