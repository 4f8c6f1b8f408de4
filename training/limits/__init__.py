"""Whether a training may start: the governor, the budget of GPU-hours, and admission."""
