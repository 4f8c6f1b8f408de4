"""The reference inference server."""
