"""Sound files, waveforms and mels, and the ways from one to the other."""
