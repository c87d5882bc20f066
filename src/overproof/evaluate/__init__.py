"""The certificate, and using a student."""
