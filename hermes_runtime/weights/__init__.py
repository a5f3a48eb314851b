"""From the files of a checkpoint to a network that is ready to run."""
