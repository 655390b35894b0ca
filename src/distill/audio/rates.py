"""The sample rates of new models."""

LOWEST_RATE, USUAL_RATE = 16_000, 48_000  # Hz; a model has the usual one, or one between them
