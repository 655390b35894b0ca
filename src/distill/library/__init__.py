"""Many model files on disk: what each says of itself, and the searchable index of them. Imports no torch."""
