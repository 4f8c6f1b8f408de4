"""What every folder speaks of: windows, conditions, incident states, errors, settings, languages."""
