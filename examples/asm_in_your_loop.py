"""Adversarial structure matching in a training loop of your own, with Flax Linen and optax.

    python examples/asm_in_your_loop.py

The network, the data and the loop are yours; the library lends the critic and the losses.
"""

# %% What you may change. In a notebook write `parse_args([])`.
import argparse
import pathlib
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))  # Unless it is installed.

from asmjax.data.scenes import Scenes
from asmjax.gradients import reverse_gradient
from asmjax.losses import cross_entropy, layer_distances
from asmjax.models.critics.autoencoder import StructureAutoencoder
from asmjax.models.input_transform import IMAGENET

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--steps", type=int, default=240)
parser.add_argument("--size", type=int, default=48, help="side of the images in pixels")
parser.add_argument("--scenes", type=int, default=256, help="number of images to train on")
flags = parser.parse_args()

# %% Your data: images (n, h, w, 3) and class ids (n, h, w).
#
# Here they are rendered rooms in which a pixel is wall (0), floor (1) or furniture (2).
CLASSES = 3


def load(split: str, length: int) -> tuple[np.ndarray, np.ndarray]:
  """Images with about zero mean and unit variance, and their class ids."""
  source = Scenes(split, size=(flags.size, flags.size), length=length)
  scenes = [source[index] for index in range(length)]
  image = IMAGENET(np.stack([scene["image"] for scene in scenes]))
  return np.asarray(image), np.stack([np.minimum(scene["label"], 2) for scene in scenes])


images, labels = load("train", flags.scenes)
validation = load("val", 32)


# %% Your network: any module from images to logits of the same height and width.
class Network(nn.Module):
  """Dilated convolutions at half the resolution."""

  @nn.compact
  def __call__(self, image):
    """Images (n, h, w, 3) to logits (n, h, w, classes)."""
    x = nn.relu(nn.Conv(16, (4, 4), strides=2)(image))
    for dilation in (1, 2, 4, 8):
      x += nn.relu(nn.Conv(16, (3, 3), kernel_dilation=dilation)(x))
    x = jax.image.resize(x, (*image.shape[:3], 16), "bilinear")
    return nn.Conv(CLASSES, (3, 3))(jnp.concatenate([x, image], axis=-1))


# %% Two players, S and A, in one tree of parameters.
#
# The critic is an autoencoder of structures: the analyzer A on the way down, whose features are
# compared, and on the way up a regularizer that rebuilds the truth from them.
network, critic = Network(), StructureAutoencoder(filters=(16, 32))
params = {
  "S": network.init(jax.random.key(0), images[:1])["params"],
  "A": critic.init(jax.random.key(1), jax.nn.one_hot(labels[:1], CLASSES))["params"],
}


# %% One scalar for both. S descends V and A climbs it: A's parameters are in `reverse_gradient`.
#
# The truth's features `known` are reversed themselves, because the reconstruction, which A is to
# descend, comes from the same pass. `normalize` compares directions of features: lengths would let
# A raise V without end by growing its weights. Of unlabeled pixels, if you have any, set both
# structures to 0.
def value(params, image, label):
  """The scalar that is differentiated, and what is printed: V and the part of wrong pixels."""
  logits = network.apply({"params": params["S"]}, image)
  shown, _ = critic.apply({"params": reverse_gradient(params["A"])}, jax.nn.softmax(logits))
  known, rebuilt = critic.apply({"params": params["A"]}, jax.nn.one_hot(label, CLASSES))
  distances = layer_distances(shown, reverse_gradient(known), ("conv1", "conv2"), normalize="pixel")
  v = sum(distance.mean() for distance in distances.values())
  pixel, rebuilding = cross_entropy(logits, label).mean(), cross_entropy(rebuilt, label).mean()
  wrong = jnp.mean(jnp.argmax(logits, axis=-1) != label)
  return pixel + v + 2 * rebuilding, {"V": v, "wrong": wrong}


# %% One backward pass, one update. A must not be faster than S (Hwang et al. 2019, Algorithm 1).
tx = optax.multi_transform({"S": optax.adam(3e-3), "A": optax.adam(5e-4)}, {"S": "S", "A": "A"})


@jax.jit
def update(params, state, image, label):
  """Moves both players by the gradient of one minibatch."""
  (_, seen), grads = jax.value_and_grad(value, has_aux=True)(params, image, label)
  updates, state = tx.update(grads, state, params)
  return optax.apply_updates(params, updates), state, seen


# %% The loop. V and the part of wrong pixels are means over the minibatches since the last line,
# each taken before it was learned from; held out is the part of wrong pixels in rooms never seen.
state, rng = tx.init(params), np.random.default_rng(0)
judge, history, every = jax.jit(value), [], max(flags.steps // 6, 1)
print(f"step {'V':>9} {'wrong':>9} {'held out':>9}")
for step in range(1, flags.steps + 1):
  rows = rng.choice(flags.scenes, 8, replace=False)
  params, state, seen = update(params, state, images[rows], labels[rows])
  history.append(seen)
  if step % every == 0:
    v, wrong = (np.mean([each[name] for each in history[-every:]]) for name in ("V", "wrong"))
    print(f"{step:4} {v:9.3f} {wrong:9.3f} {judge(params, *validation)[1]['wrong']:9.3f}")
