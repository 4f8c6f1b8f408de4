"""Statistics that stay valid however often one looks: e-detector, loss bounds, MMD."""
