"""One part of the system in each module; no decision."""
