"""From trained networks to files that serve: SavedModel, TensorFlow Lite, and their checks."""
