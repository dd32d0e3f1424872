"""Reading of image files: stills, loops and volumes, frame by frame."""
