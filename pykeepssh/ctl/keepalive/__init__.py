"""ksshctl keepalive and doctor: configuration files of ssh and sshd, read, changed and examined."""
