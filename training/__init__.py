"""Making and judging challengers; changing the champion."""
