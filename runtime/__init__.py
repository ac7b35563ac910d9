"""How a script runs: errors in one line, Ctrl-C, several processes, files written whole."""
