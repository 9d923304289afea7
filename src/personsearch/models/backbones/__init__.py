"""Trunks: the part of a network that runs once a frame, and the block that it runs once a person.

A trunk maps ``(B, 3, H, W)`` to one feature map and notes each block in ``taps``; ``person_block`` builds what
runs on a pooled crop. One file a family.
"""
