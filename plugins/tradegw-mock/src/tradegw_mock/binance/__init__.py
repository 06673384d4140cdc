"""The Binance-compatible doors: spot REST API, WebSocket API and streams.

Their texts and codes follow binance/binance-spot-api-docs. Doors (`rest`, `socket_api`, `streams`) move
bytes; the rest of the package is pure: what a request says, how it is signed, how values and errors look.
"""
