"""Commands that make challengers and compare versions."""
