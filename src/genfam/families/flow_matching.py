"""Flow matching: learn the velocity along straight paths from noise to data, then integrate it.

p_init = N(0, I) at t = 0, p_data at t = 1, x_t = (1 − t) x_0 + t x_1. The regression target x_1 − x_0 has the
marginal velocity of the path of densities as its conditional mean, so a least-squares fit learns a field whose
flow carries noise to data; nothing has to be normalised.

References:
    Lipman, Y. et al. 2023. Flow matching for generative modeling. https://arxiv.org/abs/2210.02747
        (equation 9, the conditional objective; σ_min = 0; appendix C, likelihood)
    Liu, X., Gong, C. & Liu, Q. 2023. Flow straight and fast. https://arxiv.org/abs/2209.03003 (equation 1)
    Grathwohl, W. et al. 2019. FFJORD. https://arxiv.org/abs/1810.01367 (equation 4)
    Esser, P. et al. 2024. https://arxiv.org/abs/2403.03206 (section 3.1, logit-normal times)
    Karras, T. et al. 2022. EDM. https://arxiv.org/abs/2206.00364 (algorithm 1, the last step)
    Ho, J. & Salimans, T. 2022. Classifier-free diffusion guidance. https://arxiv.org/abs/2207.12598 (equation 6,
        where our guidance is 1 + w; algorithm 1)
    Karras, T. et al. 2024. Guiding a diffusion model with a bad version of itself. https://arxiv.org/abs/2406.02507
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from torchdiffeq import odeint

from genfam.families.base import Family, Optimisation, Sampling
from genfam.families.clusters import Clusters
from genfam.families.codec import Codec
from genfam.families.coupling import couple
from genfam.families.divergence import exact_divergence, hutchinson_divergence
from genfam.families.noisy_end import FITTED_ON, NOISY_END, Spread, entropy
from genfam.networks.sizing import fit_width
from genfam.networks.velocity import CODE, Labels, VelocityDiT, VelocityMLP, VelocityUNet
from genfam.seeds import integers, normal, normal_like, uniform
from genfam.types import Data, Event, Likelihood

# our name -> torchdiffeq's name, network evaluations per step
SOLVERS = {"euler": ("euler", 1), "midpoint": ("midpoint", 2), "heun": ("heun2", 2), "rk4": ("rk4", 4)}
ADAPTIVE = {"dopri5": "dopri5"}
PREDICTIONS = ("velocity", "data", "noise")
# Of 1 − t and t where a prediction is divided by it: an error of the network is amplified by at most 20, also when a
# solver evaluates the very end of the path (Li & He 2025, https://arxiv.org/abs/2511.13720, use the same bound).
SMALLEST = 0.05
UNTOLD = 0.1  # share of training events whose cluster a guided network is not told (Ho & Salimans 2022, table 1)
CHUNK = 2**19  # scalars that are sampled at once: images stay in the processor's cache


def path(x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
    """x_t = (1 − t) x_0 + t x_1, with t of shape (B,)."""
    t = t.view(-1, *[1] * (x0.dim() - 1))
    return (1 - t) * x0 + t * x1


def velocity_from(prediction: str, output: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """The velocity that a network's output stands for.

    From x_t = (1 − t) x_0 + t x_1 and v = x_1 − x_0: v = (x_1 − x_t) / (1 − t) = (x_t − x_0) / t.

    Args:
        prediction: what the network predicts: `velocity`, `data` (x_1) or `noise` (x_0).
        output: (B, *shape) the network's output.
        x: (B, *shape) state x_t.
        t: (B,) time.
    """
    t = t.view(-1, *[1] * (x.dim() - 1))
    if prediction == "velocity":
        return output
    if prediction == "data":
        return (output - x) / (1 - t).clamp_min(SMALLEST)
    return (x - output) / t.clamp_min(SMALLEST)


class FlowMatching(Family):
    """Flow matching with a straight path.

    Args:
        event: shape and levels; discrete events are dequantised (codec.py).
        parameters: budget of the velocity network.
        optimisation: see `Optimisation`.
        batch_size: events per update.
        body: `mlp`, or for images `unet` or `dit`.
        depth: residual layers (mlp), blocks at the lower resolution (unet), or Transformer blocks (dit).
        patch: pixels per side of the patches that unet and dit work on.
        bottleneck: units of the unet's fully connected bottleneck; 0 = none.
        frequencies, frequency_scale: Fourier features of the state (mlp).
        prediction: `velocity`, `data` or `noise`.
        loss_in: `prediction`: the error of what the network predicts; `velocity`: of the velocity that follows from it,
            which for `data` weighs late times more (Li & He 2025, table 1).
        clusters: of the training split: the path is conditioned on the one in which the event lies (clusters.py), which
            sampling draws by its share; 0 = none.
        guidance: of sampling by the cluster: the velocity without it + guidance × what knowing it changes; 1 = none.
            Above 1 samples are more like their cluster than the data are, and no draws from what `log_prob` is of.
        untold_bottleneck: whether the unet has its bottleneck where it is told no cluster. Without it guidance leads
            away from a weaker network too (Karras et al. 2024, section 3).
        coupling: `independent`, or `optimal_transport` within the minibatch (POT, extra `ot`; its work on the
            CPU is not matrix multiplication and so not in the counted FLOPs).
        times: `uniform` or `logit_normal` (Esser et al. 2024, section 3.1).
        times_mean, times_spread: of the logit-normal's logit. A mean above 0 trains more near the data, where
            neighbouring levels are told apart.
        solver: `euler`, `midpoint`, `heun`, `rk4`, or adaptive `dopri5`.
        steps: of a fixed solver.
        tolerance: absolute and relative, of dopri5.
        likelihood_steps: midpoint steps of the log-likelihood's integral.
        exact_trace_up_to: dimensions up to which the divergence is exact; above, Hutchinson's estimator.
    """

    likelihood: ClassVar[Likelihood] = Likelihood.ESTIMATE
    dequantises: ClassVar[bool] = True
    prepared_in_weights: ClassVar[bool] = True
    model: nn.Module

    def __init__(
        self,
        event: Event,
        parameters: int,
        optimisation: Optimisation,
        batch_size: int,
        body: str = "mlp",
        depth: int = 4,
        patch: int = 1,
        bottleneck: int = 0,
        frequencies: int = 0,
        frequency_scale: float = 2.0,
        dropout: float = 0.0,
        prediction: str = "velocity",
        loss_in: str = "prediction",
        clusters: int = 0,
        guidance: float = 1.0,
        untold_bottleneck: bool = True,
        coupling: str = "independent",
        times: str = "uniform",
        times_mean: float = 0.0,
        times_spread: float = 1.0,
        solver: str = "heun",
        steps: int = 25,
        tolerance: float = 1e-5,
        likelihood_steps: int = 40,
        exact_trace_up_to: int = 8,
    ) -> None:
        super().__init__(event, optimisation, batch_size)
        for name, value, allowed in (
            ("prediction", prediction, PREDICTIONS),
            ("loss_in", loss_in, ("prediction", "velocity")),
            ("coupling", coupling, ("independent", "optimal_transport")),
            ("times", times, ("uniform", "logit_normal")),
            ("solver", solver, (*SOLVERS, *ADAPTIVE)),
            ("body", body, ("mlp", "unet", "dit")),
        ):
            if value not in allowed:
                raise ValueError(f"{name}: expected one of {list(allowed)}, got {value!r}")
        classes = clusters + (guidance > 1)  # the last one: not told
        if clusters < 0 or 2 * classes * CODE > parameters:
            raise ValueError(
                f"clusters: expected at least 0, and {CODE} numbers for each in at most half of the {parameters} "
                f"parameters: at most {parameters // (2 * CODE)}; got {clusters}"
            )
        if not guidance >= 1 or (guidance > 1 and not clusters):
            raise ValueError(
                f"guidance: expected 1 (none) or more, above 1 with clusters; got {guidance} and clusters={clusters}"
            )
        if not untold_bottleneck and not (body == "unet" and bottleneck and guidance > 1):
            raise ValueError(
                "untold_bottleneck=false: expected body=unet with a bottleneck, and guidance above 1; "
                f"got body={body}, bottleneck={bottleneck} and guidance={guidance}"
            )
        self.prediction, self.loss_in, self.coupling, self.times = prediction, loss_in, coupling, times
        self.guidance = guidance
        self.times_mean, self.times_spread = times_mean, times_spread
        self.solver, self.steps, self.tolerance = solver, steps, tolerance
        self.likelihood_steps, self.exact_trace_up_to = likelihood_steps, exact_trace_up_to
        self.codec = Codec(event)
        self.clusters = Clusters(clusters, event.shape) if clusters else None
        self.measured_evaluations = 0.0

        def network(width: int) -> nn.Module:
            if body == "unet":
                return VelocityUNet(event.shape, width, depth, patch, bottleneck, classes, untold_bottleneck)
            if body == "dit":
                return VelocityDiT(event.shape, width, depth, patch, classes=classes)
            return VelocityMLP(event.shape, width, depth, frequencies, frequency_scale, dropout, classes)

        self.register_players(model=network(fit_width(network, parameters, multiple=4 if body == "dit" else 1)))

    def prepare(self, data: Data) -> None:
        """Standardise continuous events by the training split, look for its clusters, and say which are alike."""
        self.codec.fit(data)
        if self.clusters is not None:
            self.clusters.fit(self.codec.encode_quietly(data.train))
            labels = self.model.label
            assert isinstance(labels, Labels)
            with torch.no_grad():
                labels.codes.weight.zero_()  # not told: the average of all
                labels.codes.weight[: len(self.clusters.means)] = self.clusters.codes(labels.codes.embedding_dim)

    def label(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, *event) -> (B,) cluster of each; nothing without clusters."""
        return () if self.clusters is None else (self.clusters.assign(self.codec.encode_quietly(x)),)

    def told(self, x: Tensor) -> tuple[Tensor, ...]:
        """`label` as training tells it: where sampling is guided, a tenth are `unknown` (algorithm 1)."""
        label = self.label(x)
        if self.guidance == 1:
            return label
        hidden = uniform((len(x),), x.device) < UNTOLD
        return tuple(torch.where(hidden, unknown(self.clusters, known), known) for known in label)

    @property
    def evaluations_per_sample(self) -> float:
        """Steps × order of a fixed solver, one for a last step to the predicted data; dopri5's of the last sampling.

        Guidance takes each twice.
        """
        if self.solver in SOLVERS:
            order = SOLVERS[self.solver][1]
            calls = self.steps * order if self.prediction != "data" else (self.steps - 1) * order + 1
            return float(calls * (1 + (self.guidance > 1)))
        return self.measured_evaluations

    @property
    def sampling(self) -> Sampling:
        """The solver and its steps; dopri5 chooses its own."""
        return Sampling(self.solver, self.steps if self.solver in SOLVERS else None)

    def choose_sampling(self, steps: int, solver: str | None = None) -> None:
        """Integrate in `steps` steps of a fixed solver: the velocity is the same, the path to t = 1 coarser or finer.

        Raises:
            ValueError: no step, or a solver that does not take a given number of them.
        """
        solver = solver or self.solver
        if solver not in SOLVERS:
            raise ValueError(
                f"solver: expected one that takes a given number of steps, {', '.join(SOLVERS)}, got {solver!r}"
                + (", which chooses its own" if solver in ADAPTIVE else "")
            )
        if steps < 1:
            raise ValueError(f"steps: expected at least 1, got {steps}")
        self.solver, self.steps = solver, steps

    def loss(self, x: Tensor, player: str) -> Tensor:
        """Mean squared error of the predicted quantity, or of the velocity (Lipman et al. 2023, equation 9)."""
        x1 = self.codec.encode(x)
        x0 = normal_like(x1)
        if self.coupling == "optimal_transport":
            x0 = couple(x0, x1)
        t = uniform((len(x1),), x1.device)
        if self.times == "logit_normal":
            t = torch.sigmoid(self.times_mean + self.times_spread * normal((len(x1),), x1.device))
        xt = path(x0, x1, t)
        output = self.model(xt, t, *self.told(x))
        target = {"velocity": x1 - x0, "data": x1, "noise": x0}[self.prediction]
        if self.loss_in == "velocity":
            output, target = (velocity_from(self.prediction, y, xt, t) for y in (output, target))
        error: Tensor = (output - target).square().mean()
        return error

    def predict(self, t: Tensor, x: Tensor, *label: Tensor, guidance: float = 1.0) -> Tensor:
        """Scalar t, (B, *shape), (B,) clusters if any -> (B, *shape): what the sampling network predicts.

        A guided velocity is that of the guided prediction: one is an affine function of the other.
        """
        times = t.expand(len(x))
        predicted: Tensor = self.sampler(x, times, *label)
        if guidance == 1:
            return predicted
        without: Tensor = self.sampler(x, times, *(unknown(self.clusters, known) for known in label))
        return without + guidance * (predicted - without)

    def velocity(self, t: Tensor, x: Tensor, *label: Tensor, guidance: float = 1.0) -> Tensor:
        """As `predict`: the sampling network's velocity."""
        return velocity_from(self.prediction, self.predict(t, x, *label, guidance=guidance), x, t.expand(len(x)))

    @torch.no_grad()
    def transport(self, x_init: Tensor, *label: Tensor, guidance: float = 1.0) -> Tensor:
        """Carry (n, *shape) draws of p_init along the flow to t = 1, if there are (n,) clusters each along its own."""

        def velocity(t: Tensor, x: Tensor) -> Tensor:
            self.measured_evaluations += calls
            return self.velocity(t, x, *label, guidance=guidance)

        calls = 1 + (guidance > 1)
        self.measured_evaluations = float(calls if self.prediction == "data" else 0)  # of the last step
        options: dict[str, Any] = {"method": ADAPTIVE.get(self.solver), "rtol": self.tolerance, "atol": self.tolerance}
        # A prediction of the data is the end of the path as seen from here, and the last step goes there. At t = 1
        # itself its velocity is 0/0: a corrector that asks for it leaves half of the noise of that step in the sample
        # (EDM, algorithm 1, corrects no last step either).
        last = 0.0
        if self.prediction == "data":
            last = max(SMALLEST, 1.0 / self.steps) if self.solver in SOLVERS else SMALLEST
        steps = self.steps - (last > 0.0)
        times = torch.tensor([0.0, 1.0 - last], device=x_init.device)
        if self.solver in SOLVERS:
            times = torch.linspace(0.0, 1.0 - last, steps + 1, device=x_init.device)
            options = {"method": SOLVERS[self.solver][0]}
        end: Tensor = odeint(velocity, x_init, times, **options)[-1] if steps else x_init
        return self.predict(times[-1], end, *label, guidance=guidance) if last else end

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """-> (n, *event): integrate the velocity from Gaussian noise."""
        return self.draw(n, generator, self.guidance)

    @torch.no_grad()
    def draw(self, n: int, generator: Generator, guidance: float) -> Tensor:
        """`sample` with another guidance."""
        chunks = []
        for size in chunk_sizes(n, min(10_000, max(1, CHUNK // self.event.dimensions))):
            label = () if self.clusters is None else (self.clusters.draw(size, generator),)
            x_init = normal((size, *self.event.shape), self.device, generator)
            chunks.append(self.codec.decode(self.transport(x_init, *label, guidance=guidance)))
        return torch.cat(chunks)

    @property
    def likelihood_method(self) -> str:
        """Where the path ends for the likelihood, if not at the data, and of what mixture it has one term, unguided."""
        path_end = f"path to t = {NOISY_END:g}" if self._ends_in_noise else ""
        term = "" if self.clusters is None else f"own cluster of {len(self.clusters.shares)}"
        return ", ".join(filter(None, (path_end, term, "" if self.guidance == 1 else "without guidance")))

    @property
    def _ends_in_noise(self) -> bool:
        return self.prediction == "data" and self.event.is_discrete

    def log_prob(self, x: Tensor) -> Tensor:
        """(B, *event) -> (B,) nats: log N(x_0) − ∫ div v dt along the flow back to t = 0 (FFJORD, equation 4).

        An estimate: of the integral (midpoint steps), of the divergence above `exact_trace_up_to` dimensions
        (Hutchinson, Rademacher probes, equation 8), and for discrete events of a bound by one draw of noise: of the
        dequantisation, or where the network predicts the data of a path that ends in noise (noisy_end.py). With
        clusters of p(k) p(x | k) for the event's own k, which is at most the sum over all. Without guidance: a guided
        velocity is of no path of densities that training knows. Seeded: the same x gives the same number.
        """
        generator = torch.Generator().manual_seed(0)
        x = x.to(self.device)
        label = self.label(x)
        log_share = 0.0 if self.clusters is None else self.clusters.shares[label].log()
        if self._ends_in_noise:
            return self.noisy_bound(x, generator, *label) + log_share
        z = self.codec.encode(x, generator)
        return self.log_density(z, 1.0, generator, *label) + self.codec.log_volume + log_share

    @torch.no_grad()
    def noisy_bound(self, x: Tensor, generator: Generator, *label: Tensor) -> Tensor:
        """(B, *event) levels, (B,) clusters if any -> (B,) nats: `noisy_end`'s bound by one draw, its entropy exact."""
        spread = Spread(self.event)

        def seen(levels: Tensor, *label: Tensor) -> tuple[Tensor, Tensor]:
            """A draw of z, and the network's prediction from it."""
            data = self.codec.centre(levels, spread.levels)
            z = NOISY_END * data + (1 - NOISY_END) * normal(data.shape, data.device, generator)
            return z, self.sampler(z, torch.full((len(z),), NOISY_END, device=z.device), *label)

        asked, own = self.measured_evaluations, self.draw(FITTED_ON, generator, 1.0)
        self.measured_evaluations = asked  # by a sample as it is drawn, not by these
        spread.fit(own, seen(own, *self.label(own))[1])
        z, predicted = seen(x, *label)
        density = self.log_density(z, NOISY_END, generator, *label)
        return spread.log_prob(x, predicted) + density + entropy(self.event.dimensions, NOISY_END)

    def log_density(self, z: Tensor, end: float, generator: Generator, *label: Tensor) -> Tensor:
        """(B, *shape) states at t = `end`, (B,) clusters if any -> (B,) nats per volume of what is carried there."""
        probe = integers(2, z.shape, z.device, generator).float() * 2 - 1
        exact = self.event.dimensions <= self.exact_trace_up_to
        state = (z, torch.zeros(len(z), device=z.device))

        def dynamics(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                z = state[0].detach().requires_grad_(True)
                v = self.velocity(t, z, *label)
                trace = exact_divergence(v, z) if exact else hutchinson_divergence(v, z, probe)
            return v.detach(), trace

        times = torch.linspace(end, 0.0, self.likelihood_steps + 1, device=z.device)
        with torch.no_grad():
            path_z, path_trace = odeint(dynamics, state, times, method="midpoint")
        x0, integral = path_z[-1].flatten(1), path_trace[-1]
        log_init = -0.5 * x0.square().sum(dim=1) - 0.5 * x0.shape[1] * math.log(2 * math.pi)
        log_density: Tensor = log_init + integral
        return log_density


def unknown(clusters: Clusters | None, label: Tensor) -> Tensor:
    """(B,) -> (B,): the label that stands for none, after the last cluster."""
    assert clusters is not None
    return torch.full_like(label, len(clusters.means))


def chunk_sizes(n: int, size: int) -> list[int]:
    """N in parts of at most `size`: bounded memory when sampling."""
    return [min(size, n - start) for start in range(0, n, size)]
