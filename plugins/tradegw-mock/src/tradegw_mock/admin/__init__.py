"""The exchange's back door: what its operator sees and does, over HTTP, and the page at `/`."""
