"""What all-MiniLM-L6-v2 is: the sizes and files that its graph and its readers share."""

from pathlib import Path
from typing import Final

MODEL_NAME: Final = "all-MiniLM-L6-v2"
DIMENSIONS: Final = 384  # of a hidden state, and so of a sentence's vector
LAYERS: Final = 6
HEADS: Final = 12
LAYER_NORM_EPSILON: Final = 1e-12

# The network has 512 positions, but was trained as a sentence encoder on 256
# word pieces, the two special ones included; text beyond them is cut off.
MAX_TOKENS: Final = 256

# Where the build puts what `export_onnx` writes.
PACKAGED_MODEL: Final = Path(__file__).parent / "model"
GRAPH_FILE: Final = "model.onnx"
WEIGHTS_FILE: Final = "model.onnx.data"
TOKENIZER_FILE: Final = "tokenizer.json"
