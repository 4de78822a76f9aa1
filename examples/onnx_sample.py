"""Continues a text with an exported network, with ONNX Runtime alone: pip install onnxruntime numpy.

python examples/onnx_sample.py model.onnx "The United States are"
"""

import json
import sys

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1])
prompt = sys.argv[2]
metadata = session.get_modelmeta().custom_metadata_map
dictionary, writable = json.loads(metadata["dictionary"]), json.loads(metadata["writable"])
first = writable[-1] + 1 - len(dictionary["characters"])  # the id of the first character
ids = [first + dictionary["characters"].index(char) for char in prompt if char in dictionary["characters"]]
ids = ids if dictionary.get("begin") is None else [dictionary["begin"], *ids]
states = {one.name: np.zeros([one.shape[0], 1, one.shape[2]], np.float32) for one in session.get_inputs()[1:]}

random, temperature, text = np.random.default_rng(7), 0.8, prompt
for _ in range(300):
    log_probs, *after = session.run(None, {"ids": np.array([ids]), **states})
    states = dict(zip(states, after, strict=True))
    logits = log_probs[0, -1, writable] / temperature
    probs = np.exp(logits - logits.max(), dtype=np.float64)
    ids = [int(random.choice(writable, p=probs / probs.sum()))]
    if ids[0] == dictionary.get("end"):
        break
    text += dictionary["characters"][ids[0] - first]
print(text)
