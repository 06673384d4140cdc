"""The native door: the exchange on a port, in newline-delimited JSON."""
