"""Load a ViT; run a method inside it; leave it as it was."""
