"""The command line: a file for each group of commands, with their options and what they do."""
