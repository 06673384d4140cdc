"""Writes the generated parts of tradegw: typed queries, migrations as data, protobuf stubs.

Run `python -m codegen.generate` from the root of the repository. Nothing here is installed with
the package; what it writes is committed.
"""
