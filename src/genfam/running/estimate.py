"""What a run would take on one GPU: FLOPs and live memory of a rehearsed update. Nothing is trained or allocated.

Counted: matrix products, convolutions and attention of an update and of a sample (`flops.py`), and the most bytes that
tensors hold at once in updates (`rehearsal.py`). Assumed: the share of the GPU's peak that such work reaches. So hours
are an estimate and no measurement; a share of 0.35 is what large models reach when they are well fed, and small
networks, or sampling one value after another, reach far less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genfam.build import build
from genfam.families.base import Family
from genfam.networks.base import count_parameters
from genfam.records.run import Run
from genfam.running.flops import count_flops
from genfam.running.parts import in_bfloat16, make_condition, make_source
from genfam.running.rehearsal import rehearsal
from genfam.running.training import per_update
from genfam.types import Batch, Likelihood

UTILISATION = 0.35
SEQUENTIAL = 200  # network calls per sample from which on they are not rehearsed one by one
INCEPTION_FLOPS = 1.14e10  # per image of 299 × 299, counted on torch-fidelity's network (tests/test_estimate.py)


TRAINING_IMAGES = {"cifar10": 50_000}  # whose features are computed; no data are read here
TEST_IMAGES = {"cifar10": 10_000}


@dataclass(frozen=True)
class Gpu:
    """Peaks of one GPU as its maker's data sheet has them, without sparsity.

    Attributes:
        bfloat16: FLOP/s of its matrix units.
        float32: FLOP/s; sampling and metrics stay in it.
        memory: bytes.
    """

    bfloat16: float
    float32: float
    memory: float


GPUS = {
    "A100": Gpu(312e12, 19.5e12, 80e9),  # NVIDIA A100 80 GB SXM
    "H100": Gpu(989e12, 67e12, 80e9),  # NVIDIA H100 SXM
    "L4": Gpu(121e12, 30.3e12, 24e9),
    "RTX4090": Gpu(165e12, 82.6e12, 24e9),  # with accumulation in float32
}


@dataclass(frozen=True)
class Requirements:
    """Of one run.

    Attributes:
        source, family: names.
        parameters: of the sampling network.
        batch_size: events per update.
        flops_per_update: counted.
        updates: that the budget buys.
        train_flops: of all of them.
        train_memory: bytes alive at most in an update: weights, gradients, optimiser, average, activations.
        sample_flops: of one sample.
        evaluation_flops: of all samples of evaluation and curve, and of Inception's features where they are asked for.
        bfloat16: whether training's products are in it.
    """

    source: str
    family: str
    parameters: int
    batch_size: int
    flops_per_update: float
    updates: int
    train_flops: float
    train_memory: int
    sample_flops: float
    evaluation_flops: float
    bfloat16: bool

    def train_seconds(self, gpu: Gpu, utilisation: float = UTILISATION) -> float:
        """FLOPs over the share of the peak."""
        return self.train_flops / (utilisation * (gpu.bfloat16 if self.bfloat16 else gpu.float32))

    def evaluation_seconds(self, gpu: Gpu, utilisation: float = UTILISATION) -> float:
        """Likewise, in float32."""
        return self.evaluation_flops / (utilisation * gpu.float32)


def requirements(run: Run) -> Requirements:
    """Rehearse a few updates and one sample of a run; no data need be there.

    Raises:
        ValueError: the configuration cannot be built, or the budget does not pay one update.
    """
    source = make_source(run)
    condition = make_condition(run)
    classes = condition.expected(source)
    condition.settle(torch.arange(classes), tuple(map(str, range(classes))))
    per_update, updates, memory = 0.0, 0, 0
    with rehearsal("cpu") as watch:  # a GPU's operators count the same, and keep about the same alive
        family = build(
            run.family, Family, "family", plugins=run.plugins,
            event=source.event, parameters=run.budget.parameters, classes=condition.codes,
        )  # fmt: skip
        family.condition = condition
        bfloat16 = family.in_bfloat16 = in_bfloat16(run.precision, family, has=True)  # every GPU of the table
        if family.trains:
            per_update = _update_flops(family)
            memory = watch.peak
            updates = int(run.budget.train_flops / per_update)
            if not updates:
                raise ValueError(
                    f"budget.train_flops: expected at least {per_update:.3g} (one update of this family), got "
                    f"{run.budget.train_flops:.3g}"
                )
        sample_flops = _sample_flops(family)
    samples, name = run.evaluation.samples, run.source["name"]
    drawn = samples + (run.curve.points * run.curve.samples if family.trains else 0)
    evaluation = sample_flops * drawn
    if run.extractor["name"] == "inception":
        references = TEST_IMAGES.get(name, 0)
        references += TRAINING_IMAGES.get(name, 0) if "frechet_train" in run.chosen_metrics else 0
        evaluation += INCEPTION_FLOPS * (drawn + references)
    return Requirements(
        source=name,
        family=run.family["name"],
        parameters=count_parameters(family.sampling_network),
        batch_size=family.batch_size,
        flops_per_update=per_update,
        updates=updates,
        train_flops=updates * per_update,
        train_memory=memory,
        sample_flops=sample_flops,
        evaluation_flops=evaluation,
        bfloat16=bfloat16,
    )


def _sample_flops(family: Family) -> float:
    """FLOPs of one sample; of one pass over all dimensions where they are drawn one after another by the hundred.

    A key–value cache makes both cost nearly the same, and a rehearsal of thousands of small steps takes minutes.
    """
    if not family.evaluations_per_sample:  # the oracle calls no network
        return 0.0
    family.eval()
    if family.evaluations_per_sample > SEQUENTIAL and family.likelihood is Likelihood.EXACT:
        x = _blank(family, 1)
        return float(count_flops(lambda: family.log_prob(x)))
    return float(count_flops(lambda: family.sample(1, generator=torch.Generator())))


def _blank(family: Family, n: int) -> Tensor:
    kind = torch.float32 if family.event.levels is None else torch.uint8
    return torch.zeros(n, *family.event.shape, dtype=kind)


def _update_flops(family: Family) -> float:
    """FLOPs of an update; one update more is made, when the optimisers' states are there."""
    x = _blank(family, family.batch_size)
    batch = Batch(x, torch.zeros(len(x), dtype=torch.int64) if family.condition.classes else None)
    family.total_updates = 10**9
    family.train()
    optimisers = family.configure_optimizers()
    flops = per_update(family, batch, optimisers, count_flops)
    family.update(batch, optimisers, torch.autograd.backward)
    return flops


def table(found: Sequence[Requirements], gpu: str, utilisation: float = UTILISATION) -> str:
    """Markdown: a row per run.

    Raises:
        ValueError: no such GPU, or a utilisation that is no share.
    """
    if gpu not in GPUS:
        raise ValueError(f"gpu: expected one of {', '.join(GPUS)}, got {gpu!r}")
    if not 0 < utilisation <= 1:
        raise ValueError(f"utilisation: expected a share above 0 and at most 1, got {utilisation}")
    peak = GPUS[gpu]
    lines = [
        "| source | family | parameters | batch | FLOPs per update | updates | training FLOPs | memory | training | "
        "FLOPs per sample | evaluation |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for need in found:
        lines.append(
            f"| {need.source} | {need.family} | {need.parameters / 1e6:.3g} M | {need.batch_size} "
            f"| {need.flops_per_update:.3g} | {need.updates:,} | {need.train_flops:.3g} "
            f"| {need.train_memory / 1e9:.3g} GB | {need.train_seconds(peak, utilisation) / 3600:.3g} h "
            f"| {need.sample_flops:.3g} | {need.evaluation_seconds(peak, utilisation) / 3600:.2g} h |"
        )
    training, evaluation = (
        sum(seconds(peak, utilisation) for seconds in times) / 3600
        for times in ([n.train_seconds for n in found], [n.evaluation_seconds for n in found])
    )
    lines += [
        "",
        f"Together, per seed: {training:.3g} h of training and {evaluation:.2g} h of evaluation on one {gpu} "
        f"(bfloat16 {peak.bfloat16:.3g} FLOP/s, float32 {peak.float32:.3g} FLOP/s, by its data sheet), if "
        f"{utilisation:.0%} of the peak is reached: assumed, not measured.",
    ]
    return "\n".join(lines)
