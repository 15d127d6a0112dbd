"""kssh: ssh that comes back.  The house is in ARCHITECTURE.md."""

__version__ = "0.1.0"
