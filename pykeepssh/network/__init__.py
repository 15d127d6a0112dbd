"""What the network shows: changes, paths, connections, names."""
