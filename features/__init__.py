"""What is known about an entity, live and in history."""
