"""The command ksshctl: a module for each group of verbs, and main.py that finds them."""
