"""Exports, each proved against the original."""
