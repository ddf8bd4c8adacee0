"""Logo datasets: where they come from, how they are checked, and composites."""
