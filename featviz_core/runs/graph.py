"""A model's graph for TensorBoard: its modules, what is computed between them, and what goes where.

It is read from what autograd notes during one ordinary pass over a picture, so that whatever can be trained can be
drawn; nothing is compiled or traced.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.versions_pb2 import VersionDef
from torch import Tensor, nn

from featviz_core.borrowing import Model, borrowed
from featviz_core.capture import check_images, placed
from featviz_core.errors import ModelError
from featviz_core.layouts import first_tensor

_INPUT = "input"


@dataclass(slots=True)
class _Calls:
    """When each module ran, in autograd's own count: `(first, end, name, type)`; `shapes` of what came out."""

    spans: list[tuple[int, int, str]] = field(default_factory=list)
    outer: list[tuple[int, str]] = field(default_factory=list)
    outputs: dict[Any, tuple[str, tuple[int, ...]]] = field(default_factory=dict)

    def scope_of(self, moment: int) -> str:
        """The innermost module that ran at a moment; modules end in front of those that contain them."""
        return next((name for first, end, name in self.spans if first <= moment < end), "")


def model_graph(model: Model, images: Tensor) -> GraphDef:
    """What does the model consist of, and what goes where? A graph for TensorBoard, from a pass over the first of
    `images` (N, C, H, W); its nodes lie in the modules' scopes.

    Raises `ModelError` where the model cannot look at the picture, or autograd sees nothing of it.
    """
    check_images(images)
    with borrowed(model) as module, torch.enable_grad(), _calls(module) as calls:
        picture = placed(images[:1], module).clone().requires_grad_()
        output = first_tensor(module(picture))
    if output is None or output.grad_fn is None:
        raise ModelError("The model has no graph.", why="Autograd saw nothing of what it computes.")
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return _graph(output.grad_fn, calls, names | {id(picture): _INPUT})


@contextmanager
def _calls(module: nn.Module) -> Iterator[_Calls]:
    calls = _Calls()
    now = torch._C._autograd._get_sequence_nr
    with ExitStack() as hooks:
        for name, part in module.named_modules():

            def enter(_module: nn.Module, _inputs: Any, name: str = name) -> None:
                calls.outer.append((now(), name))

            def leave(part: nn.Module, _inputs: Any, output: Any, name: str = name) -> None:
                first, _ = calls.outer.pop()
                calls.spans.append((first, now(), name))
                tensor = first_tensor(output)
                if tensor is not None and tensor.grad_fn is not None:
                    calls.outputs.setdefault(tensor.grad_fn, (type(part).__name__, tuple(tensor.shape)))

            hooks.callback(part.register_forward_pre_hook(enter).remove)
            hooks.callback(part.register_forward_hook(leave).remove)
        yield calls


def _graph(last: Any, calls: _Calls, names: dict[int, str]) -> GraphDef:
    used: Counter[str] = Counter()
    known: dict[Any, str] = {}
    nodes: list[NodeDef] = []
    waiting = [last]
    order: list[Any] = []
    while waiting:
        function = waiting.pop()
        if function not in known:
            known[function] = _name(function, calls, names, used)
            order.append(function)
            waiting += [one for one, _ in function.next_functions if one is not None]
    for function in reversed(order):
        inputs = [known[one] for one, _ in function.next_functions if one is not None]
        op, shape = calls.outputs.get(function, (_operation(function), ()))
        if (variable := getattr(function, "variable", None)) is not None:
            shape = tuple(variable.shape)
            op = "Placeholder" if known[function] == _INPUT else "Parameter"
        nodes.append(NodeDef(name=known[function], op=op, input=inputs, attr=_attributes(shape)))
    nodes.append(NodeDef(name="output", op="Output", input=[known[last]]))
    return GraphDef(node=nodes, versions=VersionDef(producer=22))


def _name(function: Any, calls: _Calls, names: dict[int, str], used: Counter[str]) -> str:
    variable = getattr(function, "variable", None)
    if variable is not None:
        wanted = names.get(id(variable), "tensor").replace(".", "/")
    else:
        scope = calls.scope_of(function._sequence_nr()).replace(".", "/")
        wanted = f"{scope}/{_operation(function)}".lstrip("/")
    used[wanted] += 1
    return wanted if used[wanted] == 1 else f"{wanted}_{used[wanted]}"


def _operation(function: Any) -> str:
    return str(function.name()).rpartition("::")[2].partition("Backward")[0]


def _attributes(shape: tuple[int, ...]) -> dict[str, AttrValue]:
    if not shape:
        return {}
    dims = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in shape])
    return {"_output_shapes": AttrValue(list=AttrValue.ListValue(shape=[dims]))}
