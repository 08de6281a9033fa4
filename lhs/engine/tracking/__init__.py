"""What a run leaves for people: MLflow, the report, the command's last lines."""
