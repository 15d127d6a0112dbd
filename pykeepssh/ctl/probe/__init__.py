"""ksshctl probe: after how long the way to a host forgets an idle connection."""
