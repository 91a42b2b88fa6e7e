"""From audio files to training examples: manifests, records and the tf.data pipeline over them."""
