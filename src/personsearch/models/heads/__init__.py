"""What sits on a trunk: the person detection subnet and the person head, one file each."""
