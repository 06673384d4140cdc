"""What goes over the wire: protobuf messages in a pool of their own, and the chain's big integers."""
