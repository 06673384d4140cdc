"""A mock exchange for tradegw: in the gateway's process, or on a port of its own."""
