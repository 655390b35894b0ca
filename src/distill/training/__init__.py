"""Configuration, events, and the engine that turns chunks into a trained model."""
