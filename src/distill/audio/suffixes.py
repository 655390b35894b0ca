"""The suffixes of sound files, by the library that decodes them."""

LIBSNDFILE_SUFFIXES = frozenset({".wav", ".flac", ".aif", ".aiff", ".aifc", ".ogg", ".oga", ".opus", ".mp3"})
PYAV_SUFFIXES = frozenset({".m4a", ".mp4", ".aac"})
AUDIO_SUFFIXES = LIBSNDFILE_SUFFIXES | PYAV_SUFFIXES
