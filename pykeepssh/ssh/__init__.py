"""OpenSSH's languages, pure: its command line, its log, its escapes."""
