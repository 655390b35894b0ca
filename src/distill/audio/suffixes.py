"""The suffixes of sound files."""

PYAV_SUFFIXES = frozenset({".m4a", ".mp4", ".aac"})
LOSSY_SUFFIXES = PYAV_SUFFIXES | {".ogg", ".oga", ".opus", ".mp3", ".mp2"}
AUDIO_SUFFIXES = LOSSY_SUFFIXES | {
    ".wav", ".wave", ".bwf", ".rf64", ".bw64", ".w64", ".flac", ".aif", ".aiff", ".aifc", ".caf", ".au", ".snd"
}  # fmt: skip
