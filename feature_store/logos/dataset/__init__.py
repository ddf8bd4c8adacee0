"""What a logo dataset is: images, boxes and their checks."""
