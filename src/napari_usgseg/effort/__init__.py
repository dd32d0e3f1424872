"""What labelling cost: seconds, clicks and changes of an image, read from the history."""
