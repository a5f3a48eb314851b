"""From one row of logits to one token: the constraint's mask and the draw."""
