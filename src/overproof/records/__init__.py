"""The nouns, and the ledger that keeps them."""
