"""What an incident asks for: the rules of triage, of quiet, of probation, and of the shadow comparison."""
