from __future__ import annotations

import pytest
import torch
from torch import nn

from textgym.lm.weights import WeightWatch


def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(7, 6), nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 5))


def in_place(net):
    with torch.no_grad():
        net[1].bias.add_(0.5)


def one_element_through_data(net):
    net[0].weight.data[3, 2] += 1e-3


def one_element_through_numpy(net):
    net[3].weight.detach().numpy()[4, 4] *= 1.01


def swapped_rows(net):
    net[3].weight.data.copy_(net[3].weight.data.flip(0).clone())


def swapped_elements(net):
    net[1].bias.data.copy_(net[1].bias.data.flip(0).clone())


def new_data(net):
    net[1].weight.data = net[1].weight.data * 1.1


def new_parameter(net):
    net[2].weight = nn.Parameter(torch.full((5,), 1.5))


def new_module(net):
    net[3] = nn.Linear(5, 5)


def loaded(net):
    net.load_state_dict({key: value + 0.1 for key, value in net.state_dict().items()})


def loaded_by_assignment(net):
    state = {key: value + 0.1 for key, value in net.state_dict().items()}
    net.load_state_dict(state, assign=True)


def fused_optimizer(net):
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-5, fused=True)
    net(torch.arange(3)).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize(
    "change",
    [
        in_place,
        one_element_through_data,
        one_element_through_numpy,
        swapped_rows,
        swapped_elements,
        new_data,
        new_parameter,
        new_module,
        loaded,
        loaded_by_assignment,
        fused_optimizer,
    ],
    ids=lambda change: change.__name__,
)
def test_a_change_is_seen_once(change):
    net = module()
    watch = WeightWatch(net)
    assert watch.changed()
    assert not watch.changed()
    change(net)
    assert watch.changed()
    assert not watch.changed()


def test_use_does_not_count_as_a_change():
    net = module()
    watch = WeightWatch(net)
    watch.changed()
    net(torch.arange(3)).sum().backward()
    net.train()
    net.eval()
    assert not watch.changed()


def test_half_precision():
    net = module().to(torch.bfloat16)
    watch = WeightWatch(net)
    watch.changed()
    net[1].weight.data[2, 3] += 0.25
    assert watch.changed()


@pytest.mark.parametrize("layout", ["rows", "columns"])
def test_a_hidden_write_to_all_of_a_large_tensor_is_seen_at_once(layout):
    net = module()
    values = torch.randn(3, 300, 400)
    net.register_parameter(
        "large", nn.Parameter(values if layout == "rows" else values.transpose(-1, -2))
    )
    watch = WeightWatch(net)
    watch.changed()
    assert not watch.changed()
    net.large.data.mul_(1.001)
    assert watch.changed()
    assert not watch.changed()


def test_a_write_to_one_element_that_torch_knows_of_is_seen_at_once():
    net = module()
    net.register_parameter("large", nn.Parameter(torch.randn(500, 700)))
    watch = WeightWatch(net)
    watch.changed()
    with torch.no_grad():
        net.large[1, 2] += 0.01
    assert watch.changed()


def test_a_frozen_module_is_unchanged_by_other_training():
    net, other = module().requires_grad_(False), module()
    watch = WeightWatch(net)
    watch.changed()
    fused_optimizer(other)
    assert not watch.changed()
    fused_optimizer(net.requires_grad_(True))
    assert watch.changed()
