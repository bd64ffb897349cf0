"""LoAd as a schedule: propagations, cycles, and the critics' own training between them."""

import collections
import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from asmjax.data.loader import Batches, Epochs
from asmjax.data.wrappers import Subset
from asmjax.game import PREDICTOR, Game
from asmjax.lookahead import cycle as cycles
from asmjax.lookahead.buffer import aggregate
from asmjax.lookahead.cycle import Action
from asmjax.lookahead.generate import make_generate
from asmjax.lookahead.judge import make_judge
from asmjax.lookahead.maps import Aggregated, MapStore
from asmjax.lookahead.settings import Lookahead, hold_out
from asmjax.lookahead.standing import End, Standing
from asmjax.train.checkpoint import Checkpoints, Memory
from asmjax.train.evaluate import make_evaluate
from asmjax.train.experiment import Experiment
from asmjax.train.loop import MakeSchedule, make_draw
from asmjax.train.parallel import check_divisible, meet, replicated
from asmjax.train.schedule import Outcome, Schedule, Turn, is_due, on_devices, restore
from asmjax.train.state import TrainState
from asmjax.utils.files import write_npz

TRAIN, HOLD_OUT = "train", "hold_out"


def looking_ahead(settings: Lookahead) -> MakeSchedule:
  """LoAd with these settings, for `asmjax.train.loop.train`."""
  return lambda experiment, workdir, on_skip: LookingAhead(experiment, workdir, on_skip, settings)


class LookingAhead(Schedule):
  """Lookahead adversarial learning (Jamali-Rad and Szabo 2022, Algorithm 3) on the one step.

  The predictor moves alone until its cycle ends; then it steps back to the best model, and the
  critics are trained alone, on the truth and on the maps of the buffer, until they no longer get
  better on the hold-out examples. The critics never step back, except to the best of their round,
  and the predictor's minibatches are always fresh ones.

  Attributes:
    standing: how far the run is.
    seconds: what the time was spent on.
  """

  def __init__(
    self,
    experiment: Experiment,
    workdir: pathlib.Path,
    on_skip: Callable[[str], None],
    settings: Lookahead,
  ):
    """From the predictor that the experiment starts from.

    Args:
      experiment: what to do; its number of steps is the most that the predictor takes.
      workdir: for `maps`, the buffer, and `album`, the same photos through the cycles.
      on_skip: is told of examples that cannot be read.
      settings: of the algorithm.

    Raises:
      ValueError: the game has no critic, or settings that LoAd does not have.
    """
    check(experiment, settings)
    self.standing: Standing  # Once it has begun.
    # Of a round of the critics' training.
    self._pairs: Aggregated
    self._most_steps: int
    self._experiment, self._workdir, self._settings = experiment, workdir, settings
    self._metric, self._on_skip = experiment.checkpointing.metric, on_skip
    count = len(experiment.held_out)
    held, rest = hold_out(count, settings.part, settings.part_seed)
    self._held, self._rest = (Subset(experiment.held_out, each) for each in (held, rest))
    self._store = MapStore(workdir / "maps", memory=settings.memory << 20)
    self._evaluate = make_evaluate(_bare(experiment.game))
    self._generate = make_generate(experiment, on_skip)
    self._judge = make_judge(experiment)
    self._draw = make_draw(experiment, on_skip, settings.photos)
    # Checkpoints are written in the background: the maps of the one before the last are needed.
    self._saved: collections.deque[set[int]] = collections.deque(maxlen=3)
    # They are used again and again.
    self._held_batches: list[Mapping[str, np.ndarray]] = []
    self._shown: list[Mapping[str, Array]] = []
    self.seconds: collections.defaultdict[str, float] = collections.defaultdict(float)
    self._since = time.perf_counter()

  @property
  def _out_of_steps(self) -> bool:
    return self.standing.taken == self._experiment.training.steps

  @property
  def done(self) -> int:
    """Steps of all players."""
    return self.standing.taken + self.standing.judged

  def begin(self, checkpoints: Checkpoints) -> Outcome:
    """Goes on; or evaluates the start, whose maps are the first of the buffer."""
    last = checkpoints.last()
    state = restore(self._experiment, checkpoints, last)
    self._keep_best(state)
    self._keep_critics(state)
    if last is not None:
      memory = checkpoints.recall(self._arrays(), last)
      self.standing = Standing.parse(memory.facts)
      arrays = replicated(memory.arrays)
      self._best, self._critics = arrays["best"], arrays["critics"]
      if self.standing.retraining:
        self._read_buffer()
      return Outcome(state)
    scores, others = self._held_out_scores(state), self._other_scores(state)
    miou = scores[self._metric]
    self.standing = Standing(cycles.begin(miou), (miou, *others))
    self._remember(0, state, maps=True)
    logged = _logged(self.standing, scores, miou)
    state, loss = self._retrained(state)
    return Outcome(state, logged | loss, saves=True)

  def turns(self) -> Iterator[Turn]:
    """The critics' steps and the predictor's, in phases."""
    while not self.standing.finished:
      retraining = self.standing.retraining
      movers = self._experiment.game.critics if retraining else (PREDICTOR,)
      with contextlib.closing(self._batches()) as examples:
        for batch in on_devices(self._experiment, examples):
          yield Turn(movers, batch)
          if self.standing.finished or self.standing.retraining is not retraining:
            break

  def after(self, state: TrainState) -> Outcome:
    """Evaluates where a propagation or a part of the critics' training ends, and acts on it."""
    if self.standing.retraining:
      self._set(judged=self.standing.judged + 1)
      outcome = self._after_critics(state)
    else:
      self._set(taken=self.standing.taken + 1)
      outcome = self._after_predictor(state)
    saves = outcome.saves or is_due(self.done, self._experiment.checkpointing.every)
    return outcome._replace(saves=saves)

  def memory(self) -> Memory:
    """The best predictor, the best critics of the round, and where the run stands."""
    self._saved.append({each.model for each in self.standing.sets})
    self._store.keep(set.union(*self._saved))
    return Memory(self._arrays(), dataclasses.asdict(self.standing))

  def summary(self, state: TrainState) -> dict[str, Any]:
    """The metric of the start and of the end, on the hold-out examples and on the others."""
    now, others = self.standing, self._other_scores(state)
    parts = {HOLD_OUT: (len(self._held), now.first[0], now.cycle.best)}
    if others:
      parts["rest"] = (len(self._rest), now.first[1], others[0])
    scores = {
      name: {"examples": count, "start": start, "end": end}
      for name, (count, start, end) in parts.items()
    }
    counts = {
      "propagations": now.propagations,
      "cycles": now.ended,
      "predictor_steps": now.taken,
      "critic_steps": now.judged,
    }
    return {"lookahead": {"metric": self._metric, **counts, **scores}}

  # The predictor's propagations.

  def _after_predictor(self, state: TrainState) -> Outcome:
    now, rules = self.standing, self._settings.rules
    if (now.taken - now.mark) % self._settings.every and not self._out_of_steps:
      return Outcome(state)
    self._lap("predictor", state)
    scores = self._held_out_scores(state)
    miou = scores[self._metric]
    cycle, actions = cycles.advance(now.cycle, miou, now.taken, rules)
    if Action.KEEP_BEST in actions:
      self._keep_best(state)
    self._set(cycle=cycle, propagations=now.propagations + 1)
    logged = _logged(self.standing, scores, miou) | {
      "lookahead/kept_best": float(Action.KEEP_BEST in actions),
      "lookahead/kept_start": float(Action.KEEP_START in actions),
    }
    if Action.TRAIN in actions and not self._out_of_steps:
      return Outcome(state, logged | {"lookahead/ended": float(End.OPEN.value)})
    fell = not miou > now.cycle.start - rules.fall
    end = End.BUDGET if Action.TRAIN in actions else End.FELL if fell else End.PATIENCE
    return self._end_cycle(state, logged | {"lookahead/ended": float(end.value)}, actions)

  def _end_cycle(
    self, state: TrainState, logged: dict[str, float], actions: Sequence[Action]
  ) -> Outcome:
    """Adds the models of the cycle to the buffer, and steps back to the best."""
    now = self.standing
    best = now.cycle.best_model
    peak = best if best > now.mark else None  # Found in this cycle.
    back = self._stepped_back(state)
    stops = Action.RETRAIN not in actions or self._out_of_steps
    models = {now.taken: state} if peak is None else {peak: back, now.taken: state}
    for model, of_model in models.items():
      self._remember(model, of_model, maps=not stops)
    sets = aggregate(
      now.sets, now.taken, peak, most=self._settings.most, retain=self._settings.retain
    )
    self._set(ended=now.ended + 1, sets=sets, finished=stops)
    logged |= {
      "lookahead/back_to": float(best),
      "lookahead/peak": float(peak is not None),
      "lookahead/sets": float(len(sets)),
    }
    if stops:
      return Outcome(back, logged, evaluates=True)
    state, loss = self._retrained(back)
    return Outcome(state, logged | loss, saves=True)

  def _stepped_back(self, state: TrainState) -> TrainState:
    """The best predictor, its statistics, its optimizer's state and its schedule's step."""
    best = _copied(self._best)
    players = {**state.players, PREDICTOR: best["player"]}
    return dataclasses.replace(state, step=best["step"], players=players)

  # The critics' training.

  def _retrained(self, state: TrainState) -> tuple[TrainState, dict[str, float]]:
    """The state in which the critics' training begins, at their own step."""
    self._keep_critics(state)
    state = dataclasses.replace(state, step=replicated(jnp.int32(self.standing.judged)))
    self._set(retraining=True, mark=self.standing.judged, rounds=self.standing.rounds + 1, waited=0)
    self._read_buffer()
    self._lap("maps")
    loss = self._judge(state, self._shown)
    self._set(loss=loss)
    self._lap("critics' hold-out")
    return state, {"lookahead/critic_loss": loss}

  def _after_critics(self, state: TrainState) -> Outcome:
    now, settings = self.standing, self._settings.retraining
    gone = now.judged - now.mark
    if gone % settings.every and gone < self._most_steps:
      return Outcome(state)
    self._lap("critics", state)
    loss = self._judge(state, self._shown)
    self._lap("critics' hold-out")
    logged = {"lookahead/critic_loss": loss, "lookahead/critic_steps": float(now.judged)}
    if loss < now.loss:
      self._keep_critics(state)
      self._set(loss=loss, waited=0)
    else:
      self._set(waited=now.waited + 1)
    if self.standing.waited < settings.patience and gone < self._most_steps:
      return Outcome(state, logged)
    self._set(retraining=False, mark=now.taken)
    players = {**state.players, **_copied(self._critics)}
    state = dataclasses.replace(state, step=jnp.copy(self._best["step"]), players=players)
    return Outcome(state, logged, saves=True)

  def _batches(self) -> Batches:
    """Those of the present phase."""
    now, run = self.standing, self._experiment
    if not now.retraining:
      return run.train_batches(now.taken, self._on_skip)
    settings = self._settings.retraining
    # Every round has an order of its own.
    epochs = Epochs(self._pairs, run.augment, run.seed + now.rounds)
    start = now.judged - now.mark
    return run.batches(epochs, settings.batch_size, start, self._most_steps, self._on_skip)

  def _read_buffer(self) -> None:
    """What the critics are trained on, and what they are judged by, augmented alike every time."""
    self._pairs = self._aggregated(TRAIN)
    self._most_steps = self._settings.retraining.most_steps(len(self._pairs))
    pairs, size = self._aggregated(HOLD_OUT), self._settings.retraining.batch_size
    epochs = Epochs(pairs, self._experiment.augment, self._experiment.seed, shuffle=False)
    examples = self._experiment.batches(epochs, size, 0, -(-len(pairs) // size), self._on_skip)
    self._shown = list(on_devices(self._experiment, examples))

  def _aggregated(self, part: str) -> Aggregated:
    source = self._experiment.source if part == TRAIN else self._held
    sets = self._store.read([each.model for each in self.standing.sets], part)
    return Aggregated(source, sets, self._experiment.prepare.resized)

  # Models: their scores, maps and photos.

  def _held_out_scores(self, state: TrainState) -> dict[str, float]:
    if not self._held_batches:
      self._held_batches += self._experiment.eval_batches(self._on_skip, self._held)
    scores = self._evaluate(state.variables(), self._held_batches).metrics
    self._lap("hold-out")
    return scores

  def _other_scores(self, state: TrainState) -> tuple[float, ...]:
    """The metric on the examples that nothing is decided by, if there are any."""
    if not len(self._rest):
      return ()
    examples = self._experiment.eval_batches(self._on_skip, self._rest)
    return (self._evaluate(state.variables(), examples).metrics[self._metric],)

  def _remember(self, model: int, state: TrainState, *, maps: bool) -> None:
    """Draws a model's predictions of a few photos; writes its maps unless the run is over."""
    if jax.process_index() == 0:
      write_npz(self._workdir / "album" / f"{model}.npz", self._draw(state))
    if maps:
      indices = self._indices(model)
      for part, source, of_part in (
        (TRAIN, self._experiment.source, indices),
        (HOLD_OUT, self._held, range(len(self._held))),
      ):
        self._store.write(model, part, self._generate(state.variables(), source, of_part))
      meet(f"maps of model {model}")

  def _indices(self, model: int) -> Sequence[int]:
    """The training examples that get a map."""
    run, settings = self._experiment, self._settings
    epochs = run.epochs()
    indices, drawn = range(len(epochs.source)), model * run.training.batch_size
    if settings.seen and model and drawn < len(indices):
      indices = [epochs.place(position)[1] for position in range(drawn)]
    if 0 < settings.images < len(indices):
      random = np.random.default_rng((run.seed, model))
      indices = random.choice(indices, settings.images, replace=False).tolist()
    return sorted(indices)

  def _keep_best(self, state: TrainState) -> None:
    self._best = _copied({"step": state.step, "player": state.players[PREDICTOR]})

  def _keep_critics(self, state: TrainState) -> None:
    critics = self._experiment.game.critics
    self._critics = _copied({name: state.players[name] for name in critics})

  def _arrays(self) -> dict[str, PyTree]:
    return {"best": self._best, "critics": self._critics}

  def _set(self, **changes: Any) -> None:
    self.standing = dataclasses.replace(self.standing, **changes)

  def _lap(self, purpose: str, waiting_for: PyTree = None) -> None:
    """Books the time since the last lap."""
    jax.block_until_ready(waiting_for)
    now = time.perf_counter()
    self.seconds[purpose] += now - self._since
    self._since = now


def _copied(tree: PyTree) -> PyTree:
  """Steps take the memory of the state that they are given."""
  return jax.tree.map(jnp.copy, tree)


def _logged(now: Standing, scores: Mapping[str, float], miou: float) -> dict[str, float]:
  """What a propagation's line says."""
  cycle = now.cycle
  facts = {
    "propagation": now.propagations,
    "model": now.taken,
    "miou": miou,
    "start": cycle.start,
    "best": cycle.best,
    "cycle": now.ended,
    "failures": cycle.failures,
    "gone": cycle.gone,
    "above": cycle.above,
  }
  return {f"lookahead/{name}": float(value) for name, value in facts.items()} | {
    f"{HOLD_OUT}/{name}": value for name, value in scores.items()
  }


def _bare(game: Game) -> Game:
  """Without metrics that are computed on the host: it is evaluated often."""
  tasks = {name: dataclasses.replace(task, extra_metrics=()) for name, task in game.tasks.items()}
  return dataclasses.replace(game, tasks=tasks)


def check(experiment: Experiment, settings: Lookahead) -> None:
  """Raises ValueError unless LoAd can be played with the experiment's game and optimizers."""
  check_divisible(settings.retraining.batch_size, name="lookahead.retraining.batch_size")
  training, critics = experiment.training, experiment.game.critics
  if not critics:
    raise ValueError("lookahead needs a term with a critic; there is none in config.terms")
  if training.turns != "joint" or training.pretraining:
    raise ValueError(
      f"train.turns={training.turns!r} and train.pretraining={training.pretraining}: lookahead has "
      "turns of its own; expected 'joint' and 0"
    )
  for name in critics:
    schedule = experiment.optimizers[name].schedule
    if schedule != "constant":
      raise ValueError(
        f"the optimizer of the critic of {name!r} has the schedule {schedule!r}; with lookahead a "
        "critic's training has no known end: expected 'constant'"
      )
