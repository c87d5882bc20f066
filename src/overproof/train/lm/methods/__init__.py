"""How a student learns: one short file a method, each no more than its loss."""
