"""What is left of an error that a library words for its developers."""

import pytest

from sep_tf.errors import tensorflow_says

NODE = "{{node ParseSingleExample/ParseExample/ParseExampleV2}}"
FUNCTION = "{{function_node __wrapped__IteratorGetNext_output_types_9_device_/job:localhost}}"
MAP = "Error in user-defined function passed to MapDataset:4 transformation with iterator:"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            f"{FUNCTION} {MAP} Iterator::Root::Prefetch::ParallelMapV2: Feature: f0 (data type: "
            f"string) is required but could not be found.\n\t [[{NODE}]] [Op:Next] name: ",
            "Feature: f0 (data type: string) is required but could not be found.",
        ),
        (
            f"{FUNCTION} corrupted record at 257940 [Op:IteratorGetNext] name: ",
            "corrupted record at 257940",
        ),
        (
            f"{FUNCTION} {MAP} Iterator::Root: assertion failed: [f0 is not finite in a batch of "
            '[songs]] ["a" "b"]\n\t [[{{node Assert/Assert}}]] [Op:IteratorGetNext]',
            'f0 is not finite in a batch of [songs] ["a" "b"]',
        ),
        (
            "Graph execution error:\n\nDetected at node Reshape defined at (most recent call last):"
            "\n<stack traces unavailable>\nInput to reshape is a tensor with 3 values\n\t "
            "[[{{node Reshape}}]] [Op:__inference_signature_wrapper_12]",
            "Input to reshape is a tensor with 3 values",
        ),
        ("", ""),
    ],
)
def test_what_tensorflow_says(message, said):
    assert tensorflow_says(message) == said
