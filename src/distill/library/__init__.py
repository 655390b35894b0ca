"""Model files on disk: the headers of single files, and a searchable index of many. Imports no torch."""
