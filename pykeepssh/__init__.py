"""kssh: ssh that comes back.  The floor plan is in ARCHITECTURE.md."""

__version__ = "0.1.0"
