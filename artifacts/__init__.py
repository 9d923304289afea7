"""Engines shipped with the package; each folder is one artifact (see core/manifest.py)."""
