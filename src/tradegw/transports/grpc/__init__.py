"""The gRPC door: `server.serve` opens it, `client.connect` goes through it from the other side.

Nothing is imported here: a client needs no server.
"""
