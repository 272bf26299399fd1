"""Whatever a borrower does to a model, its owner finds it as it was; and borrowers never meet."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from featviz_core.borrowing import Pool, borrowed, meta_view, structural_view, untouched
from tests.toys import TOYS, pictures, toy

pytestmark = pytest.mark.usefixtures("one_thread")


def train_pass(module):
    module.train()
    module(pictures(4)).sum().backward()


def add_hooks(module):
    for m in module.modules():
        m.register_forward_hook(lambda *_: None, always_call=True)
        m.register_forward_pre_hook(lambda *_: None, with_kwargs=True)
        m.register_full_backward_hook(lambda *_: None)
        m.register_full_backward_pre_hook(lambda *_: None)
        m.register_state_dict_pre_hook(lambda *_: None)


def remove_hooks(module):
    module.fc._forward_hooks.clear()


def replace_forward(module):
    module.bn.forward = lambda x: x * 0
    module.forward = lambda x: x


def write_on_buffers(module):
    with torch.no_grad():
        module.bn.running_mean.fill_(7)
        module.bn.running_var.data.fill_(7)
        module.mask.mul_(0)


def replace_buffers(module):
    module.bn.running_mean = torch.full((4,), 7.0)
    module.bn.running_var = None
    module.late = torch.ones(1)
    module.register_buffer("more", torch.ones(1))


def freeze_and_thaw(module):
    module.requires_grad_(False)
    module.b.requires_grad_(True)


def swap_parts(module):
    module.drop = nn.Identity()
    module.fc.weight = nn.Parameter(torch.zeros(5, 4))
    module.extra = nn.Linear(1, 1)


def keep_features(module):
    module.last_features = torch.zeros(1)
    module.note = "mine"
    del module.steps


MISCHIEF = (
    train_pass,
    add_hooks,
    remove_hooks,
    replace_forward,
    write_on_buffers,
    replace_buffers,
    freeze_and_thaw,
    swap_parts,
    keep_features,
)


def owned() -> nn.Module:
    """A model whose owner is in the middle of something."""
    module = toy("Norms")
    module.register_buffer("mask", torch.ones(2))
    module.register_buffer("late", None)
    module.steps, module.note = 3, "owner's"
    module.fc.register_forward_hook(lambda *_: None)
    train_pass(module)
    module.bn.eval()
    return module


@pytest.mark.parametrize("mischief", MISCHIEF)
@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_everything_is_put_back(mischief, error, model_untouched):
    module = owned()
    with model_untouched(module):
        try:
            with untouched(module):
                mischief(module)
                if error:
                    raise error
        except BaseException as raised:  # noqa: BLE001 - what is raised inside comes out
            assert type(raised) is error


def test_statistics_that_batchnorm_writes_behind_torchs_back_are_put_back():
    module = toy("Norms")
    before = module.bn.running_mean.clone()
    with untouched(module, training=True):
        module(pictures(8) + 5)
        assert not torch.equal(module.bn.running_mean, before)
    assert torch.equal(module.bn.running_mean, before)
    assert module.bn.num_batches_tracked == 0


def test_inside_the_block_the_mode_is_as_asked_and_gradients_are_away():
    module = owned()
    for training in (True, False):
        with untouched(module, training=training):
            assert all(m.training == training for m in module.modules())
            assert all(parameter.grad is None for parameter in module.parameters())
    assert module.a.weight.grad is not None


def test_an_owners_graph_survives_a_visit():
    module = toy("Norms")
    loss = module(pictures(2)).sum()
    with borrowed(module) as same:
        same(pictures(2))
    loss.backward()
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in module.parameters())


def test_the_fixture_that_looks_for_traces_finds_them(model_untouched):
    for mischief in MISCHIEF:
        module = owned()
        with pytest.raises(AssertionError), model_untouched(module):
            mischief(module)


# Views


def test_a_view_shares_its_numbers_and_nothing_else():
    module = owned()
    view = structural_view(module)
    assert torch.equal(view.eval()(pictures()), module.eval()(pictures()))
    for ours, theirs in zip(view.parameters(), module.parameters(), strict=True):
        assert ours is not theirs
        assert ours.data_ptr() == theirs.data_ptr()
        assert ours.requires_grad == theirs.requires_grad
        assert ours.grad is None
    assert view.bn.running_mean.data_ptr() != module.bn.running_mean.data_ptr()
    assert view.a._forward_hooks is not module.a._forward_hooks
    with torch.no_grad():
        module.fc.bias.add_(1)
    assert torch.equal(view.fc.bias, module.fc.bias)


def test_tied_parameters_and_shared_modules_stay_tied():
    module = toy("Shared")
    module.tied = module.stem.weight
    view = structural_view(module)
    assert view.a is view.b
    assert view.tied is view.stem.weight


def test_a_view_without_numbers_takes_no_memory():
    view = meta_view(toy("Norms"))
    assert {tensor.device.type for tensor in (*view.parameters(), *view.buffers())} == {"meta"}
    assert view(pictures().to("meta")).shape == (1, 5)


# The pool


def test_each_borrower_gets_a_view_of_its_own_and_it_is_used_again():
    pool = Pool(toy("Norms"))
    with pool.borrow() as one, pool.borrow(training=True) as other:
        assert one is not other
        assert other.training
        assert not one.training
        first = {id(one), id(other)}
    with pool.borrow() as one, pool.borrow() as other:
        assert {id(one), id(other)} == first


def test_there_are_at_most_eight_views_and_the_ninth_borrower_waits():
    pool, out, most = Pool(toy("Linear")), set(), []
    lock = threading.Lock()

    def use(_):
        with pool.borrow() as view:
            with lock:
                assert id(view) not in out
                out.add(id(view))
                most.append(len(out))
            time.sleep(0.01)
            with lock:
                out.remove(id(view))

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(use, range(64)))
    assert 1 < max(most) <= 8
    assert len(pool._idle) == pool._made <= 8


def test_a_module_that_cannot_be_copied_is_lent_itself_to_one_at_a_time(model_untouched):
    module = toy("NoCopy")
    pool, inside = Pool(module), []

    def use(_):
        with pool.borrow(training=True) as lent:
            assert lent is module
            inside.append(1)
            assert len(inside) == 1
            lent(pictures(2))
            inside.pop()

    with model_untouched(module), ThreadPoolExecutor(8) as threads:
        list(threads.map(use, range(40)))


def test_who_has_a_module_that_cannot_be_copied_may_borrow_it_again():
    pool = Pool(toy("NoCopy"))
    with pool.borrow() as outer, pool.borrow(training=True) as inner:
        assert outer is inner
        assert inner.training


@pytest.mark.parametrize("name", ["OwnForward", "NoCopy"])
def test_what_a_copy_would_get_wrong_is_not_copied(name):
    module = toy(name)
    with Pool(module).borrow() as lent:
        assert lent is module
        assert torch.equal(lent(pictures()), toy(name)(pictures()))


def test_a_failed_or_interrupted_copy_takes_no_place():
    class Moody(TOYS["Linear"]):
        mood: BaseException | None = None

        def __deepcopy__(self, memo):
            if self.mood:
                raise self.mood
            other = Moody()
            other.load_state_dict(self.state_dict())
            return other

    module = Moody()
    pool = Pool(module)
    for mood in [KeyboardInterrupt(), MemoryError(), SystemExit()] * 4:
        module.mood = mood
        with pytest.raises(type(mood)), pool.borrow():
            pass
    module.mood = None
    with pool.borrow() as view:
        assert view is not module
    module.mood = TypeError("cannot pickle")
    with pool.borrow() as one, pool.borrow() as other:
        assert one is view
        assert other is module, "the second view could not be made"


def test_a_view_does_not_inherit_what_somebody_is_doing_to_the_module_itself():
    module = toy("Norms")
    pool, ready, done = Pool(module), threading.Event(), threading.Event()

    def use_directly():
        with borrowed(module, training=True) as same:
            same.a.register_forward_hook(lambda *_: None)
            ready.set()
            done.wait(0.2)

    with ThreadPoolExecutor(1) as threads:
        threads.submit(use_directly)
        assert ready.wait(5)
        with pool.borrow() as view:
            assert not view.a._forward_hooks
            assert not view.training
        done.set()


def test_a_plain_module_is_used_by_one_thread_at_a_time_and_again_by_the_same():
    module, inside = toy("Norms"), []

    def use(_):
        with borrowed(module), borrowed(module) as same:
            assert same is module
            inside.append(1)
            assert len(inside) == 1
            time.sleep(0.001)
            inside.pop()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(use, range(40)))


def test_modules_that_are_gone_are_forgotten():
    from featviz_core import borrowing

    before = len(borrowing._locks)
    with borrowed(nn.Linear(1, 1)):
        assert len(borrowing._locks) == before + 1
    assert len(borrowing._locks) == before
