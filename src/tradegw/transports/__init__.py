"""The doors: what speaks to callers. Each turns its wire into `model` values and asks a `Gateway`."""
