"""Deployable files made from a trained model."""
