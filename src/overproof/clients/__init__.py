"""Teachers: the protocol and one file per kind."""
