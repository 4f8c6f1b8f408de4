"""Jobs on GPUs for users' own DAGs: `GPUJobOperator`, the process that runs a job, and how both find each other."""
