"""The only place that knows Ray and MLflow: stages, their cache, and what runs them."""
