"""Which posts train, test and calibrate: groups that belong together stay together."""
