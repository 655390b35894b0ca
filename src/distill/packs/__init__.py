"""Packs: sounds as files that a sampler opens, with presets beside them that map them to keys."""
