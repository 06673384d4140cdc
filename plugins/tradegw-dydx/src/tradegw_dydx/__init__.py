"""dYdX v4 for tradegw. Public: `hooks`, which tradegw finds by the entry point `dydx`."""
