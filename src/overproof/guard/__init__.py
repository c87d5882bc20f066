"""Finding distillation in traffic: fingerprints, signals, evidence, decisions."""
