"""Files ⇄ waveform ⇄ mel."""
