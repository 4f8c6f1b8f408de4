"""The way to other servers over HTTP, for the gateway and for batches: one pool of connections, limits on each call."""
