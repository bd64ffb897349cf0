"""Labels a photo with an exported predictor; needs jax, flatbuffers, numpy and pillow alone.

python launch/export.py --workdir=RUN --out=horse.stablehlo
python examples/load_exported.py horse.stablehlo photo.jpg labeled.png
"""

import hashlib
import json
import pathlib
import sys

import jax
import jax.export
import numpy as np
from PIL import Image, ImageOps

path, photo, out = map(pathlib.Path, sys.argv[1:])
stored, metadata = path.read_bytes(), json.loads(path.with_suffix(".json").read_text())
if hashlib.sha256(stored).hexdigest() != metadata["sha256"]:
  sys.exit(f"{path} is not the file that {path.with_suffix('.json')} describes; export again")
predict = jax.jit(jax.export.deserialize(bytearray(stored)).call)
(height, width), color = metadata["evaluation"]["size"], tuple(metadata["evaluation"]["fill"])
picture = ImageOps.pad(
  Image.open(photo).convert("RGB"), (width, height), color=color, centering=(0, 0)
)  # What is best for a run with the resize "letterbox".
label = np.asarray(predict(np.asarray(picture)[None])["segmentation"][0])
labeled = Image.fromarray(label.astype(np.uint8))
labeled.putpalette(np.array(metadata["palette"], np.uint8).tobytes())
labeled.save(out)
