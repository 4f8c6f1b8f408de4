"""Telling people: Slack messages, their outbox, Prometheus rules, Grafana dashboards."""
