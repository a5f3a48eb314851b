"""What tests use; nothing in it is collected."""
