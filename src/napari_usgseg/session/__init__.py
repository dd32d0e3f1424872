"""What a person does to an image, without any window."""
