"""The command line: it parses, calls, shows, and holds no logic of its own."""
