"""What runs the stages: cluster, resources, progress, the model pool, training workers."""
