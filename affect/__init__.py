"""The shared kernel: vocabulary, labels, pictures, faces, networks, counterfactuals, wire, archive.

Everything that training, the TorchServe handlers and the gateway must agree on is here and nowhere else. The modules
catalogue, labels, card, images, faces, wire and archive do not import torch, so the gateway stays light.
"""

__version__ = "0.1.0"
