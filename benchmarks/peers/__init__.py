"""Networks of other separators at their published sizes, with random weights, to time beside ours.

Their weights are in no package registry, and speed does not depend on values. What is here was
written anew in Keras from their papers and published code; what comes out is noise.
"""

from typing import NamedTuple


class Peer(NamedTuple):
    """One separator.

    Attributes:
      home: "module:function": (audio [samples, 2]) -> (voice [samples, 2]) maker.
      parameters: of the published network, in all networks that a vocal needs.
    """

    home: str
    parameters: int


PEERS: dict[str, Peer] = {
    # umxhq: one network a target; the vocals alone.
    "open-unmix": Peer("benchmarks.peers.open_unmix:make", 8_893_348),
    # 2 stems: one U-Net each, whose outputs together give the mask.
    "spleeter": Peer("benchmarks.peers.spleeter:make", 2 * 9_823_749),
    # One network of four sources.
    "htdemucs": Peer("benchmarks.peers.htdemucs:make", 41_984_456),
}
