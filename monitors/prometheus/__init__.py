"""Everything that talks to Prometheus or reads PromQL: client, signals, GPUs, and the Airflow provider."""
