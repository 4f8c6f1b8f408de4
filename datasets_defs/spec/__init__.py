"""A monitored model's YAML as frozen, validated values, one file for each of its sections."""
