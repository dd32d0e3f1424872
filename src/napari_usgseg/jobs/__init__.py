"""Work off the Qt thread: requests, the inference process, the file thread, trainings."""
