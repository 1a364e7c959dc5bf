from __future__ import annotations

import torch

from vvsbench.drafting.eagle import EagleHead
from vvsbench.models.transformer import Transformer, TransformerConfig
from vvsbench.training.drafter import Unrolled, overlap
from vvsbench.training.fused import FusedPass

SMALL = TransformerConfig("label", dim=32, layers=2, heads=2, vocab=20, grid=3, classes=5)


def test_the_fused_pass_has_the_numbers_and_gradients_of_the_model() -> None:
    torch.manual_seed(0)
    network = Transformer(SMALL)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0.5 if parameter.ndim == 1 else 0.0, 0.3)
    labels, tokens = torch.randint(6, (4,)), torch.randint(20, (4, 9))
    gradients, logits = [], []
    for forward in (network.train_logits, FusedPass(network, torch.float32)):
        network.zero_grad()
        out = forward(labels, tokens)
        out.log_softmax(-1)[..., 3].sum().backward()
        logits.append(out.detach())
        gradients.append([parameter.grad.clone() for parameter in network.parameters()])
    torch.testing.assert_close(*logits, atol=2e-5, rtol=1e-5)
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_unrolling_is_drafting() -> None:
    """The prediction for a pair at depth k is what the head says after true features and k predicted ones."""
    torch.manual_seed(0)
    head = EagleHead(SMALL)
    length = 8
    known, tokens = torch.randn(2, length, SMALL.dim), torch.randint(20, (2, length))
    unrolled, inputs = Unrolled(head, length, torch.float32), known
    for depth in range(4):
        predicted = unrolled.advance(inputs, tokens)
        for last in range(depth, length):
            path = known[:, : last + 1].clone()
            for pair in range(last - depth + 1, last + 1):
                path[:, pair] = head.train_features(path[:, :pair], tokens[:, :pair])[:, -1]
            expected = head.train_features(path, tokens[:, : last + 1])[:, -1]
            torch.testing.assert_close(predicted[:, last], expected, atol=1e-5, rtol=1e-4)
        inputs = torch.cat([known[:, :1], predicted[:, :-1]], 1)


def test_overlap_is_one_minus_the_total_variation() -> None:
    p, q = torch.rand(7, 5).softmax(-1), torch.rand(7, 5).softmax(-1)
    torch.testing.assert_close(overlap(p, q), 1 - (p - q).abs().sum(-1) / 2)
