"""Variational autoencoder: p(x) = ∫ p(x | z) N(z; 0, I) dz, trained by a bound on its logarithm.

References:
    Kingma, D. P. & Welling, M. 2014. Auto-encoding variational Bayes. https://arxiv.org/abs/1312.6114
    Rezende, D. J., Mohamed, S. & Wierstra, D. 2014. Stochastic backpropagation and approximate inference in deep
    generative models. https://arxiv.org/abs/1401.4082
    Burda, Y., Grosse, R. & Salakhutdinov, R. 2016. Importance weighted autoencoders (IWAE), equation 8.
    https://arxiv.org/abs/1509.00519
    Bowman, S. R. et al. 2016. Generating sentences from a continuous space, section 3.1 (warm-up of the divergence).
    https://arxiv.org/abs/1511.06349
    Kingma, D. P. et al. 2016. Improving variational inference with inverse autoregressive flow, equation 16 (free
    bits). https://arxiv.org/abs/1606.04934
    Higgins, I. et al. 2017. β-VAE, equation 4. https://openreview.net/forum?id=Sy2fzU9gl
    Rybkin, O., Daniilidis, K. & Levine, S. 2021. Simple and effective VAE training with calibrated decoders.
    https://arxiv.org/abs/2006.13202
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from genfam.families.base import Family, Optimisation
from genfam.families.codec import Codec
from genfam.networks.convolutional import PLANE_FEATURES, ImageDecoder, ImageEncoder, PlanesDecoder, PlanesEncoder
from genfam.networks.embeddings import FourierFeatures
from genfam.networks.mlp import ResidualMLP
from genfam.networks.observation import CATEGORICAL_LEVELS, gaussian_log_prob, observation_for
from genfam.networks.priors import Couplings, FlowPrior, VampPrior
from genfam.networks.sizing import count_parameters, fit_width
from genfam.networks.variational import Decoder, Encoder, LadderDecoder, LocalPosterior
from genfam.seeds import normal, normal_like
from genfam.types import Data, Event, Likelihood

SEED = 20160301  # of the importance samples: the same events get the same bound
CONTEXT = 64  # numbers that the encoder tells the posterior's flow
CHUNK = 2**22  # decoder outputs held at once while sampling or bounding a likelihood


class VAE(Family):
    """β-VAE with warm-up, free bits and a calibrated observation model.

    Discrete events are observed as levels (no dequantisation) and continuous ones as standardised floats. `log_prob`
    is the importance-weighted bound.

    Args:
        event: what one data point is.
        parameters: budget of the decoder, which is all that a sample passes through; its width is chosen to meet it
            within 10 %. The encoder, which only training and the likelihood bound need, is made as large.
        optimisation: how the encoder and the decoder, one player, are optimised.
        batch_size: B.
        latent: size of z; None = the event's dimensions, but at most 16.
        depth: residual layers of a perceptron.
        blocks: residual blocks per resolution of a convolutional network.
        patch: pixels per side of the patches that it works on.
        hidden: units of its fully connected layer next to z; 0 = none.
        planes: of a convolutional network: all channels of an image share one, and a perceptron joins them in z.
        body: `mlp`, or `conv` where the event is an image.
        activation: of both networks.
        dropout: on the perceptrons' residual branches.
        frequencies: where the event is continuous, the number of fixed random frequencies at which perceptrons see
            their input (`FourierFeatures`): modes far tighter than their distance ask for steep functions; 0 = none.
        frequency_scale: standard deviation of the encoder's frequencies, per unit of the standardised event.
        latent_frequency_scale: of the decoder's, per unit of z. Higher ones (1.0 on the grid) invite collapse.
        beta: weight of the divergence KL(q(z | x) ‖ p(z)), and of local latents' (Higgins et al. 2017); 1 gives the
            evidence lower bound.
        beta_warmup: share of the updates over which the weight rises linearly from 0 to `beta`.
        free_bits: λ, nats per latent dimension below which the divergence is not reduced any further.
        pseudo_inputs: of a VampPrior; 0 = the standard normal. What the decoder needs of it after training is a mixture
            of that many Gaussians, which the budget's parameters do not count.
        coupling_layers: of a flow as prior; 0 = none. A sample passes through it, so that the budget counts it.
        coupling_width: hidden size of these layers.
        posterior_layers: coupling layers of a flow that carries the encoder's Gaussian on, as wide as the prior's and
            told what the encoder saw (Kingma et al. 2016, section 3); 0 = none. Sampling does not need it.
        local_latents: a second level of latents (`LadderDecoder`), so many for each position of body=conv; 0 = none.
        importance_samples: K of the bound that `log_prob` returns.
        variance: of continuous events: `heteroscedastic`, `per_dimension` or `shared`.
        mixtures: logistic components per dimension where an event has more than 32 levels.

    Raises:
        ValueError: `body` is unknown or does not fit the event, a setting is out of its range, or no width meets the
            budget.
    """

    likelihood: ClassVar[Likelihood] = Likelihood.LOWER_BOUND
    model: nn.ModuleDict

    def __init__(
        self,
        event: Event,
        parameters: int,
        optimisation: Optimisation,
        batch_size: int,
        latent: int | None = None,
        depth: int = 4,
        blocks: int = 1,
        patch: int = 1,
        hidden: int = 0,
        planes: bool = False,
        body: str = "mlp",
        activation: str = "silu",
        dropout: float = 0.0,
        frequencies: int = 32,
        frequency_scale: float = 1.0,
        latent_frequency_scale: float = 0.5,
        beta: float = 1.0,
        beta_warmup: float = 0.5,
        free_bits: float = 0.0,
        pseudo_inputs: int = 0,
        coupling_layers: int = 0,
        coupling_width: int = 128,
        posterior_layers: int = 0,
        local_latents: int = 0,
        importance_samples: int = 64,
        variance: str = "heteroscedastic",
        mixtures: int = 5,
    ) -> None:
        super().__init__(event, optimisation, batch_size)
        if body not in ("mlp", "conv") or (body == "conv" and not event.is_image):
            raise ValueError(f"body: expected mlp or (for images of at least 4 × 4) conv, got {body!r} for {event}")
        if planes and body != "conv":
            raise ValueError(f"planes: expected body=conv, got {body}")
        latent = min(16, event.dimensions) if latent is None else latent
        if beta < 0 or not 0 <= beta_warmup <= 1 or free_bits < 0 or importance_samples < 1 or latent < 1:
            raise ValueError(
                "expected beta ≥ 0, beta_warmup in [0, 1], free_bits ≥ 0, importance_samples ≥ 1 and latent ≥ 1, got "
                f"{beta}, {beta_warmup}, {free_bits}, {importance_samples} and {latent}"
            )
        if posterior_layers < 0 or local_latents < 0 or (free_bits and (posterior_layers or local_latents)):
            raise ValueError(
                "expected posterior_layers ≥ 0 and local_latents ≥ 0, and no free bits with either, got "
                f"{posterior_layers}, {local_latents} and {free_bits}"
            )
        if posterior_layers and pseudo_inputs:
            raise ValueError("expected posterior_layers or pseudo_inputs, not both: a VampPrior is made of Gaussians")
        if local_latents and (body != "conv" or planes):
            raise ValueError(f"local_latents: expected body=conv without planes, got {body} (planes {planes})")
        learned = (pseudo_inputs > 0) + (coupling_layers > 0)
        if min(pseudo_inputs, coupling_layers) < 0 or learned > 1 or (learned and free_bits):
            raise ValueError(
                "expected pseudo_inputs ≥ 0 or coupling_layers ≥ 0 but not both above, and no free bits with a learned "
                f"prior (it has no divergence per dimension), got {pseudo_inputs}, {coupling_layers} and {free_bits}"
            )
        self.latent, self.coupling_layers, self.posterior_layers = latent, coupling_layers, posterior_layers
        self.beta, self.beta_warmup, self.free_bits = beta, beta_warmup, free_bits
        self.importance_samples = importance_samples
        self.convolutional = body == "conv"
        # A die's faces have no order, so that numbers would mislead; an image's grey values have one.
        self.one_hot = event.levels is not None and event.levels <= CATEGORICAL_LEVELS and not event.is_image
        self.codec = Codec(event)

        def perceptron(inputs: int, outputs: int, width: int, scale: float) -> nn.Module:
            if event.is_discrete or not frequencies:
                return ResidualMLP(inputs, outputs, width, depth, activation, dropout)
            features = FourierFeatures(inputs, frequencies, scale)
            return nn.Sequential(features, ResidualMLP(features.outputs, outputs, width, depth, activation, dropout))

        said = 2 * latent + (CONTEXT if posterior_layers else 0)
        flow = Couplings(latent, posterior_layers, coupling_width, CONTEXT) if posterior_layers else None
        if flow is not None and count_parameters(flow) > parameters // 2:
            raise ValueError(
                "posterior_layers, coupling_width: expected a flow of at most half of the "
                f"{parameters} parameters that the encoder gets, got {count_parameters(flow)}"
            )

        def encoder(width: int, above: int) -> nn.Module:
            local = LocalPosterior(above, width, local_latents, activation) if local_latents else None
            if self.convolutional:
                size, inputs = (event.shape[1], event.shape[2]), 1 if planes else event.shape[0]
                outputs = PLANE_FEATURES if planes else said
                network: nn.Module = ImageEncoder(inputs, outputs, size, width, blocks, activation, patch, hidden)
                if planes:
                    network = PlanesEncoder(said, event.shape[0], network, activation)
                return Encoder(network, flow=flow, local=local)
            inputs = event.dimensions * (event.levels or 1 if self.one_hot else 1)
            return Encoder(perceptron(inputs, said, width, frequency_scale), flow=flow)

        def decoder(width: int) -> nn.Module:
            observation = observation_for(event, variance=variance, mixtures=mixtures)
            outputs = observation.parameters_per_dimension
            if self.convolutional:
                size = (event.shape[1], event.shape[2])
                channels = outputs if planes else outputs * event.shape[0]
                image = ImageDecoder(latent, channels, size, width, blocks, activation, patch, hidden)
                network: nn.Module = image
                if planes:
                    network = PlanesDecoder(latent, event.shape[0], latent, image)
                if local_latents:
                    network = LadderDecoder(image, local_latents, activation)
                return Decoder(network, observation)
            flat = outputs * event.dimensions
            return Decoder(perceptron(latent, flat, width, latent_frequency_scale), observation)

        prior = FlowPrior(latent, coupling_layers, coupling_width) if coupling_layers else None
        taken = count_parameters(prior) if prior is not None else 0
        if taken > parameters // 2:
            raise ValueError(
                f"coupling_layers, coupling_width: expected a prior of at most half of the {parameters} parameters "
                f"that the budget gives a sample's way, got {taken}"
            )
        above = fit_width(decoder, parameters - taken)
        seen = fit_width(lambda width: encoder(width, above), parameters)
        parts = {"encoder": encoder(seen, above), "decoder": decoder(above)}
        if prior is not None:
            parts["prior"] = prior
        if pseudo_inputs:
            shape = self.inputs(torch.zeros((1, *event.shape), dtype=torch.uint8)).shape[1:]
            parts["prior"] = VampPrior(torch.zeros(pseudo_inputs, *shape))
        self.register_players(model=nn.ModuleDict(parts))

    @staticmethod
    def parts(networks: nn.ModuleDict) -> tuple[Encoder, Decoder]:
        """The encoder and the decoder of the live or the averaged networks."""
        encoder, decoder = networks["encoder"], networks["decoder"]
        assert isinstance(encoder, Encoder)
        assert isinstance(decoder, Decoder)
        return encoder, decoder

    @property
    def sampling_network(self) -> nn.Module:
        """The decoder, and a prior that is a network: sampling does not touch the encoder."""
        decoder = self.model["decoder"]
        return nn.ModuleList([self.model["prior"], decoder]) if self.coupling_layers else decoder

    def prepare(self, data: Data) -> None:
        """Fit the standardisation of continuous events; let pseudo-inputs start from events."""
        self.codec.fit(data)
        if "prior" in self.model:
            for name, parameter in [*self.model.named_parameters(), *self.average.module.named_parameters()]:
                if name == "prior.pseudo_inputs":
                    with torch.no_grad():
                        chosen = torch.arange(len(parameter)) % len(data.train)  # a small split is gone through again
                        parameter.copy_(self.inputs(data.train[chosen]))

    def inputs(self, x: Tensor) -> Tensor:
        """(B, *event) events -> what the encoder takes: one-hot, grey values in [−1, 1], or standardised floats."""
        levels = self.event.levels
        if levels is None:
            return self.codec.encode(x) if self.convolutional else self.codec.encode(x).flatten(1)
        if self.one_hot:
            return F.one_hot(x.long(), levels).flatten(1).float()
        grey = x.float() * (2.0 / max(1, levels - 1)) - 1.0
        return grey if self.convolutional else grey.flatten(1)

    def observed(self, x: Tensor) -> Tensor:
        """(B, *event) events -> what the observation model gives a probability to: levels or standardised floats."""
        return x if self.event.is_discrete else self.codec.encode(x)

    @property
    def beta_now(self) -> float:
        """Weight of the divergence at this point of the warm-up."""
        return self.beta * (min(1.0, self.progress / self.beta_warmup) if self.beta_warmup else 1.0)

    def loss(self, x: Tensor, player: str) -> Tensor:
        """(B, *event) -> E[−log p(x | z)] + β (Σ_j max(λ, KL_j) + that of local latents), in nats per event.

        One z per event, by reparametrisation with torch's global random state. Free bits take the minibatch's mean
        of each dimension's divergence KL_j (Kingma et al. 2016, equation 16).
        """
        encoder, decoder = self.parts(self.model)
        seen = encoder.see(self.inputs(x))
        z, log_q = encoder.draw(seen, normal_like(seen.mean))
        likelihood, local = decoder.observe(self.observed(x), z, encoder, seen.features, closed=True, generator=None)
        if "prior" in self.model or self.posterior_layers:  # one draw estimates the divergence
            rate = (log_q - self.log_prior(self.model, z)).mean()
        else:
            rate = gaussian_divergence(seen.mean, seen.log_std).mean(dim=0).clamp(min=self.free_bits).sum()
        return -likelihood.mean() + self.beta_now * (rate + local.mean())

    @torch.no_grad()
    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """-> (n, *event) drawn from p(z) and then from p(x | z).

        The observation is drawn, not replaced by its mean: the model's distribution, whose likelihood `log_prob`
        bounds, is ∫ p(x | z) p(z) dz. Means would be another, sharper-looking model with no likelihood.
        """
        networks = self.sampler.eval()
        chunks = []
        for start in range(0, n, self._rows):
            size = min(self._rows, n - start)
            if "prior" in networks:
                z = networks["prior"].sample(size, networks["encoder"], generator)
            else:
                z = normal((size, self.latent), self.device, generator)
            x = networks["decoder"].sample(z, generator)
            chunks.append(x if self.event.is_discrete else self.codec.decode(x))
        networks.train(self.training)
        dtype = torch.uint8 if self.event.is_discrete else torch.float32
        return torch.cat(chunks) if chunks else torch.empty((0, *self.event.shape), dtype=dtype)

    def log_prior(self, networks: nn.ModuleDict, z: Tensor) -> Tensor:
        """(…, latent) -> (…) log p(z) in nats."""
        if "prior" in networks:
            prior = networks["prior"]
            assert isinstance(prior, VampPrior | FlowPrior)
            return prior.log_prob(z, networks["encoder"])
        zero = torch.zeros(self.latent, device=z.device)
        return gaussian_log_prob(z, zero, zero).sum(dim=-1)

    @property
    def likelihood_method(self) -> str:
        """K of the bound."""
        return f"{self.importance_samples} importance samples"

    @torch.no_grad()
    def log_prob(self, x: Tensor) -> Tensor:
        """(B, *event) -> (B,) nats: log 1/K Σ_k p(x, z_k) / q(z_k | x), z_k ~ q(z | x) (Burda et al. 2016, equation 8).

        In expectation at most log p(x), and closer with larger K. The draws come from a generator with a seed of
        its own, so that one model gives one answer, and differ between the events of a call.
        """
        networks = self.sampler.eval()
        generator = torch.Generator().manual_seed(SEED)
        bounds = [self._bound(networks, chunk, generator) for chunk in torch.split(x.to(self.device), self._events)]
        networks.train(self.training)
        volume = 0.0 if self.event.is_discrete else self.codec.log_volume
        return torch.cat(bounds) + volume

    def _bound(self, networks: nn.ModuleDict, x: Tensor, generator: Generator) -> Tensor:
        """(B, *event) -> (B,) importance-weighted bound in nats of the network's units."""
        encoder, decoder = self.parts(networks)
        seen = encoder.see(self.inputs(x))
        observed, total = self.observed(x), torch.full((len(x),), -math.inf, device=x.device)
        done = 0
        while done < self.importance_samples:
            k = min(max(1, self._rows // max(1, len(x))), self.importance_samples - done)
            noise = normal((k, *seen.mean.shape), seen.mean.device, generator).to(seen.mean)
            z, log_q = encoder.draw(seen, noise)
            rate = log_q - self.log_prior(networks, z)
            repeated = observed.expand(k, *observed.shape).flatten(0, 1)
            features = seen.features
            if features is not None:
                features = features.expand(k, *features.shape).flatten(0, 1)
            likelihood, local = decoder.observe(repeated, z.flatten(0, 1), encoder, features, False, generator)
            weights = (likelihood - local).view(k, len(x)) - rate
            total = torch.logaddexp(total, torch.logsumexp(weights, dim=0))
            done += k
        return total - math.log(self.importance_samples)

    @property
    def _rows(self) -> int:
        """Latents decoded at once: memory stays bounded whatever n and K are."""
        decoder = self.model["decoder"]
        assert isinstance(decoder, Decoder)
        return max(1, CHUNK // (decoder.observation.parameters_per_dimension * self.event.dimensions * 4))

    @property
    def _events(self) -> int:
        """Events bounded at once."""
        return max(1, self._rows // self.importance_samples)


def gaussian_divergence(mean: Tensor, log_std: Tensor) -> Tensor:
    """KL(N(mean, e^{2 log_std}) ‖ N(0, 1)) per element, in nats (Kingma & Welling 2014, appendix B)."""
    return 0.5 * (mean.square() + torch.exp(2.0 * log_std) - 1.0) - log_std
