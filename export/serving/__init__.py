"""For TensorFlow Serving: warm-up requests, a load generator, a small server, configurations."""
