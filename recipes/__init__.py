"""Recipes shipped with the package; one run each."""
