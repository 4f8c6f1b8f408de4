"""Evidently's reports, which explain a verdict and never make one."""
