"""Multinomial logistic regression on soft labels, full batch, in double precision.

Shapes: N inputs, D features, L labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from overproof.train.losses.soft_cross_entropy import soft_cross_entropy

__all__ = ["Linear", "fit_logistic"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Linear:
    """Weights (L, D) and biases (L,) of a linear layer."""

    weight: Floats
    bias: Floats

    def logits(self, features: Floats) -> Floats:
        """Logits (..., L) of ``features`` (..., D)."""
        return np.asarray(features @ self.weight.T + self.bias, dtype=np.float64)


def fit_logistic(
    features: Floats, target: Floats, l2: float, start: Linear | None = None
) -> Linear:
    """Minimise the soft cross-entropy plus ``l2 / 2`` times the squared weights (not biases).

    The objective is convex; L-BFGS with strong Wolfe steps runs until no slope is above 1e-5,
    which leaves the objective within about 1e-6 of its minimum.

    Args:
        features: (N, D).
        target: (N, L) distributions.
        l2: penalty, at least zero.
        start: where to begin; zeros by default. Only speed depends on it.
    """
    # Centring moves a shift into the biases, which are free: the same minimum, found sooner.
    centre = features.mean(axis=0)
    x_ND, target_NL = torch.from_numpy(features - centre), torch.from_numpy(target)  # noqa: N806
    n_labels, width = target.shape[1], features.shape[1]
    first = start or Linear(np.zeros((n_labels, width)), np.zeros(n_labels))
    weight = torch.tensor(first.weight, dtype=torch.float64, requires_grad=True)
    bias = torch.tensor(first.logits(centre), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, bias],
        max_iter=500,
        tolerance_grad=1e-5,
        tolerance_change=1e-10,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def objective() -> torch.Tensor:
        optimiser.zero_grad()
        loss = soft_cross_entropy(x_ND @ weight.T + bias, target_NL)
        loss = loss + 0.5 * l2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(objective)  # type: ignore[no-untyped-call]
    found = weight.detach().numpy().copy()
    return Linear(found, bias.detach().numpy() - found @ centre)
