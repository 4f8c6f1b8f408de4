"""Image-text pairs: what came in, each image and caption prepared, joined again, and what was lost and why."""
