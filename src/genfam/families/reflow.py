"""Reflow: flow matching, then again on the pairs that its own flow makes, so that a few steps suffice.

Independent pairs of noise and data have lines between them that cross, and the velocity at a crossing is the mean of
theirs: the learnt paths bend, and one long step ends at the mean of the data. A flow's own paths cannot cross. So
between noise x_0 and the place Φ(x_0) to which the flow carries it fewer lines cross, and a second flow that learns
from such pairs is straighter.

Both flows share one budget. A share `first` of the updates is flow matching; what it has learnt then is the teacher,
which stays as it is and makes the pairs of the rest. Each pair costs the teacher's steps and is used several times.

References:
    Liu, X., Gong, C. & Liu, Q. 2023. Flow straight and fast. https://arxiv.org/abs/2209.03003
        (algorithm 1; theorem 3.5, no convex cost of transport grows; section 5, the second flow begins at the first)
"""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from genfam.families.base import Optimisation
from genfam.families.coupling import Coupling, Independent
from genfam.families.flow_matching import FlowMatching
from genfam.families.paths import Times, Uniform
from genfam.families.solvers import Solver
from genfam.networks.base import Network
from genfam.ranges import Count, ShareBelowOne
from genfam.seeds import uniform
from genfam.types import Batch, Event, Likelihood

KEPT = 8192  # pairs
USES = 8  # of a pair, on average; those of the first pairs are more, since there are no others yet


class Reflow(FlowMatching):
    """Flow matching twice, straightened (2-rectified flow).

    It has no likelihood: a few long steps are a map without a known inverse, and the density of the exact flow would be
    that of other samples.

    Args:
        event: shape and levels; discrete events are dequantised (codec.py).
        parameters: budget of the network.
        network: one that can be a field.
        optimisation: see `Optimisation`; one schedule for both flows.
        batch_size: events per update.
        prediction: what the network predicts: `velocity`, `data` or `noise`.
        times: at which it learns.
        coupling: of noise and data within a batch of the first flow.
        first: share of the updates that train the first flow.
        teacher: solver of the pairs.
        solver: of samples; its method and steps may be chosen after training.
        classes: values of the condition that the network knows; 0 = none.
    """

    likelihood: ClassVar[Likelihood] = Likelihood.NONE
    starts: Tensor
    ends: Tensor
    values: Tensor
    made: Tensor

    def __init__(
        self,
        event: Event,
        parameters: int,
        network: Network,
        optimisation: Optimisation,
        batch_size: Count,
        prediction: Literal["velocity", "data", "noise"] = "velocity",
        times: Times = Uniform(),
        coupling: Coupling = Independent(),
        first: ShareBelowOne = 0.5,
        teacher: Solver = Solver("heun", 10),
        solver: Solver = Solver("euler", 1),
        classes: int = 0,
    ) -> None:
        super().__init__(event, parameters, network, optimisation, batch_size, prediction, times, coupling, solver,
                         classes)  # fmt: skip
        self.first, self.teaching = first, teacher
        self.flop_phases = (0.0, first) if first else (0.0,)
        self.teacher = copy.deepcopy(self.model).requires_grad_(False)
        for name in ("starts", "ends"):
            self.declare(name, torch.zeros(0, *event.shape), sampling=False)
        self.declare("values", torch.zeros(0, dtype=torch.int64), sampling=False)
        self.declare("made", torch.zeros((), dtype=torch.int64), sampling=False)

    @property
    def of_training_only(self) -> frozenset[str]:
        """The teacher too."""
        return super().of_training_only | {"teacher"}

    def pairs(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """Of flow matching; later, (B, *shape) starts and ends of the teacher's paths, drawn from those kept."""
        if self.progress < self.first:
            return super().pairs(batch)
        if not self.made:
            self.teacher.load_state_dict(self.sampler.state_dict())
        self._make(max(1, len(batch) // USES), batch.condition)
        rows = (uniform((len(batch),), self.device) * self.made.clamp(max=KEPT)).long()
        return self.starts[rows], self.ends[rows], None if batch.condition is None else self.values[rows]

    def _make(self, n: int, condition: Tensor | None) -> None:
        """Replace the n oldest pairs by new ones, made for the batch's first n values of the condition."""
        if not len(self.starts):
            self.starts, self.ends = (torch.zeros(KEPT, *self.event.shape, device=self.device) for _ in range(2))
            self.values = torch.zeros(KEPT, dtype=torch.int64, device=self.device)
        condition = None if condition is None else condition[:n]
        places = (self.made + torch.arange(n, device=self.device)) % KEPT
        self.starts[places] = self.start(n)
        self.ends[places] = self.taught(self.starts[places], condition)
        if condition is not None:
            self.values[places] = condition
        self.made += n

    @torch.no_grad()
    def taught(self, x_init: Tensor, condition: Tensor | None) -> Tensor:
        """(n, *shape) draws of p_init, (n,) condition -> where the teacher carries them."""

        def predict(x: Tensor, t: Tensor) -> Tensor:
            out: Tensor = self.teacher(x, t, condition)
            return out

        self.teacher.eval()
        with torch.autocast(self.device.type, enabled=False):  # sampling is in float32
            *_, (_, end) = self.walk_with(self.teaching, x_init, predict)
        return end

    def path_energy(self, x: Tensor, generator: Generator) -> Tensor:
        """(n, *event) -> (n,): of the steps that `carry` takes, each of them straight."""
        steps = self.sampling["steps"]
        times = [step / steps for step in range(1, steps)]
        walked = self.walk(self.codec.encode(x, generator), self.predictor(None), generator, times)
        moved = [(after - before).flatten(1).square().sum(dim=1) for before, after in pairwise(x for _, x in walked)]
        total: Tensor = torch.stack(moved).sum(dim=0) * steps * self.codec.unit**2
        return total
