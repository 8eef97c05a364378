"""Which noise goes to which data, within a batch.

References:
    Tong, A. et al. 2024. Improving and generalizing flow-based generative models with minibatch optimal
        transport. https://arxiv.org/abs/2302.00482 (section 3.2)
"""

from __future__ import annotations

import torch
from torch import Tensor


def couple(x0: Tensor, x1: Tensor) -> Tensor:
    """(B, *shape) noise, (B, *shape) data -> the noise in the order that pairs them at least squared cost.

    Exact optimal transport within the batch.

    Raises:
        ImportError: POT is not installed.
    """
    try:
        import ot
    except ImportError as error:
        raise ImportError("coupling=optimal_transport needs POT: pip install 'genfam[ot]'") from error
    cost = torch.cdist(x1.flatten(1), x0.flatten(1)).square().double().cpu().numpy()
    plan = ot.emd(ot.unif(len(x1)), ot.unif(len(x0)), cost)
    return x0[torch.from_numpy(plan).argmax(dim=1).to(x0.device)]
