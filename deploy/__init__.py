"""The stack in containers, and the same on a developer's machine without them."""
