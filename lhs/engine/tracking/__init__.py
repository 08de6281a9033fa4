"""Results of a run for people: MLflow, the report, the command's last lines."""
