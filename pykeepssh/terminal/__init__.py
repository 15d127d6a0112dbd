"""The person's side: terminal, screen, keys, and the bytes between them and ssh."""
