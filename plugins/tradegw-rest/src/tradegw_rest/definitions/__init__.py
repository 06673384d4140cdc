"""The definition files that ship."""
