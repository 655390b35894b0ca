"""Which file names stand for sound files, and which of them need PyAV."""

LIBSNDFILE_SUFFIXES = frozenset({".wav", ".flac", ".aif", ".aiff", ".aifc", ".ogg", ".oga", ".opus", ".mp3"})
PYAV_SUFFIXES = frozenset({".m4a", ".mp4", ".aac"})
AUDIO_SUFFIXES = LIBSNDFILE_SUFFIXES | PYAV_SUFFIXES
