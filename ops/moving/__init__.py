"""A model's way to another installation: what of it travels, the archive that it travels in, and its arrival."""
