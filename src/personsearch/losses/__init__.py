"""Losses, one file each: plain functions and modules over tensors, no model and no data set in sight."""
