"""A term of your own with a critic of its own, in the library's loop: nothing is edited.

    python examples/new_term.py

The critic is a spotlight. It sees the true structure and spreads light over the pixels at borders
of classes, of which every image gets one unit a pixel. V is the cross-entropy at borders, each
pixel's times its light. The spotlight ascends V, so it turns to shapes that the predictor gets
wrong; the predictor descends V. V is bounded by the worst pixel: such a game cannot explode.
"""

# %% What you may change. In a notebook write `parse_args([])`.
import argparse
import dataclasses
import json
import pathlib
import sys
import tempfile

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))  # Unless it is installed.

from asmjax.config.build import build_experiment
from asmjax.gradients import reverse_gradient
from asmjax.losses import cross_entropy
from asmjax.ops.masked_mean import MaskedMean
from asmjax.terms.base import LossTerm, Term, TermOutput
from asmjax.train.loop import train
from asmjax.train.optim import Optimizer
from configs import scenes

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--out", type=pathlib.Path, help="folder of the run; a temporary one if none")
parser.add_argument("--steps", type=int, default=180)
parser.add_argument("--size", type=int, default=48, help="side of the images in pixels")
parser.add_argument("--levels", type=int, default=3, help="resolutions of the predictor")
flags = parser.parse_args()
out = flags.out or pathlib.Path(tempfile.mkdtemp(prefix="new_term_"))


# %% The critic: any Flax module.
class Spotlight(nn.Module):
  """How brightly each pixel of a structure is lit: the same for all at first."""

  @nn.compact
  def __call__(self, structure):
    """(n, h, w, c) to light (n, h, w, 1), from exp(-3) to exp(3)."""
    x = nn.relu(nn.Conv(16, (5, 5))(structure))
    return jnp.exp(3 * nn.tanh(nn.Conv(1, (5, 5), kernel_init=nn.initializers.zeros)(x)))


# %% The term. It returns loss terms: a `MaskedMean(total, count)`, and its weight in the objective
# of either player.
#
# V is shared: the critic ascends what the predictor descends. It enters the one scalar that is
# differentiated once, with `joint_weight`, and the critic's parameters are in `reverse_gradient`.
# Means without weights are only reported.
@dataclasses.dataclass(frozen=True)
class Borders(Term):
  """Cross-entropy at borders of classes, under the spotlight."""

  weight: float = 1.0
  critic: nn.Module = Spotlight()

  def init(self, rng, tasks, size):
    """The spotlight's variables."""
    return self.critic.init(rng, jnp.zeros((1, *size, tasks["segmentation"].channels)))

  def __call__(self, context):
    """V, the same without the spotlight, and the part of the borders that is lit."""
    logits, task = context.outputs["segmentation"], context.tasks["segmentation"]
    truth, params = context.truth, reverse_gradient(context.critic["params"])
    structure = task.true_structure(truth)
    classes_around = jnp.sum(nn.max_pool(structure, (3, 3), padding="SAME"), -1, keepdims=True)
    border = (classes_around > 1) * task.mask(truth)
    pixels = jnp.sum(border, axis=(1, 2, 3), keepdims=True)
    light = border * self.critic.apply({"params": params}, structure)
    light *= pixels / jnp.maximum(jnp.sum(light, axis=(1, 2, 3), keepdims=True), 1e-6)
    lit = pixels / jnp.maximum(jnp.sum(light**2, axis=(1, 2, 3), keepdims=True), 1e-6)
    loss = lambda weights: cross_entropy(logits, truth["label"], mask=border, weights=weights)
    value, weight = loss(light[..., 0]), self.weight
    return TermOutput(
      {
        "value": LossTerm(value, weight, -weight, joint_weight=weight),
        "unlit": LossTerm(loss(None)),
        "lit": LossTerm(MaskedMean.from_values(lit, pixels > 0)),
      }
    )

  def diagnose(self, now, first):
    """What the loop is to warn of: who stares at a few pixels teaches nothing of the others."""
    stares = 0 < now["lit"] < 0.05
    return {"stares": f"the spotlight lights {now['lit']:.1%} of the borders"} if stares else {}


# %% A run of the pixel loss as shipped, made small, and the same with one term more.
#
# The new player needs an optimizer, under its term's name; it must not outpace the predictor.
config = scenes.get_config("iid")
config.data.update(size=(flags.size, flags.size))
config.data.options.length = 128
config.predictor.update(levels=flags.levels, width=8)
config.train.update(steps=flags.steps, log_every=max(flags.steps // 6, 1))
config.eval.update(every=0, batch_size=16)
config.checkpoint.every = 0  # One at the end.
run = build_experiment(config)
game = dataclasses.replace(run.game, terms={**run.game.terms, "borders": Borders()})
optimizers = {**run.optimizers, "borders": Optimizer(learning_rate=5e-4, clip_norm=1.0)}
run = dataclasses.replace(run, game=game, optimizers=optimizers)

# %% Does everyone move the right way? Each player alone takes a step of length 0.05 against the
# gradient of V that it is handed: V falls for the predictor and rises for the spotlight.
state, batch = run.init_state(), next(run.train_batches(0))
params, stats = state.params, state.batch_stats


@jax.jit
def value(params):
  """V of the batch, in nats."""
  output = game.compute_losses(params, stats, batch, rng=jax.random.key(0))
  return output.losses["borders/value"].value.mean()


before, grads = jax.value_and_grad(value)(params)
after = {}
for name, grad in grads.items():
  rate = 0.05 / optax.tree.norm(grad)
  moved = jax.tree.map(lambda p, g, rate=rate: p - rate * g, params[name], grad)
  after[name] = value({**params, name: moved})
  print(f"V is {before:.4f}, and {after[name]:.4f} after a step of {name} alone")

# %% Train, and look how the critic does: means over the steps since the last line.
#
# V is in nats, `unlit` is V without the spotlight, and `lit` the part of the borders that gets the
# light: 100 % if all get the same. Then the norms of the critic's gradient and of what the term
# sends back to the logits. The loop prints the same and more.
train(run, out)
for line in map(json.loads, (out / "metrics.jsonl").read_text().splitlines()):
  print(
    f"step {line['step']:4}  V {line['borders/value']:.3f}  unlit {line['borders/unlit']:.3f}"
    f"  lit {line['borders/lit']:4.0%}  gradient {line['gradient_norm/borders']:.3f}"
    f"  sent {line['gradient_norm_from/borders']:.3f}"
  )
