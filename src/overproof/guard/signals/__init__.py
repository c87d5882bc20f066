"""Signals: pure functions of what an account, or a community of accounts, has done."""
