"""Runs of the graph: pin, retrain, register, history."""
