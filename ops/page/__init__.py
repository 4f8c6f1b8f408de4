"""The "driftloop" page inside Airflow's UI: read from PostgreSQL, rendered on the server, without scripts."""
