"""The command line: it parses arguments, calls the package, shows the results, and has no logic of its own."""
