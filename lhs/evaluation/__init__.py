"""Predictions of whole images and the scores of a confusion matrix of counts."""
