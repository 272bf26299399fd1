"""Experiments from files: where they run, what their mistakes look like, and that nothing is left behind."""

from __future__ import annotations

import pickle
import sys
import sysconfig
import textwrap
import threading
from pathlib import Path

import pytest

import featviz_core as fv
from featviz_core.__main__ import main
from featviz_core.errors import ExperimentError
from featviz_core.experiment import Experiment, few_batches, fresh
from featviz_core.experiment_file import EXAMPLE, at_home, open_experiment, own_lines
from featviz_core.experiment_model import open_for_looking

BODY = """
    import torch
    from torch import nn
    import featviz_core as fv

    def experiment():
        model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
        batches = [(torch.zeros(2, 3, 2, 2), torch.tensor([0, 1]))]
        return fv.Experiment(model=model, train_loader=batches, loss_fn=nn.CrossEntropyLoss(),
                             optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    other = experiment
"""


@pytest.fixture
def write(tmp_path):
    modules, path = set(sys.modules), list(sys.path)

    def write(body, name="my_own_experiment.py"):
        file = tmp_path / name
        file.write_text(textwrap.dedent(body), encoding="utf-8")
        return file

    yield write
    for name in set(sys.modules) - modules:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in sys.modules[name].__file__:
            del sys.modules[name]
    sys.path[:] = path


def test_a_file_gives_fresh_experiments(write):
    make = open_experiment(str(write(BODY)))
    one, two = make(), make()
    assert isinstance(one, Experiment)
    assert one.model is not two.model


def test_a_function_can_be_named(write):
    file = write(BODY)
    assert isinstance(open_experiment(f"{file}:other")(), Experiment)
    with pytest.raises(ExperimentError, match=r"no function 'third'.*it has experiment, other"):
        open_experiment(f"{file}:third")
    compile(EXAMPLE, "example", "exec")


def test_the_command_line_says_it_in_one_line(write, capsys):
    assert main(["checklist", f"{write(BODY)}:third"]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and "```" not in said.err
    assert "def experiment()" in said.out


def test_own_code_may_lie_beside_the_interpreter():
    """As in /usr/src/app with a system's Python, whose prefix is /usr."""
    file = str(Path(sysconfig.get_path("data"), "src", "app", "mine.py"))
    with pytest.raises(ZeroDivisionError) as caught:
        exec(compile("1 / 0", file, "exec"))
    assert file in own_lines(caught.value)


def test_a_changed_file_is_seen(write):
    file = write(BODY)
    open_experiment(str(file))
    write(BODY.replace("Linear(12, 2)", "Linear(12, 5)"))
    assert open_experiment(str(file))().model[1].out_features == 5


def test_neighbours_paths_and_workers_work_as_they_do_for_the_owner(write, tmp_path):
    (tmp_path / "numbers.txt").write_text("7", encoding="utf-8")
    write("WIDTH = 12", "my_neighbour.py")
    file = write("""
        import torch
        from pathlib import Path
        from torch import nn
        from torch.utils.data import DataLoader, Dataset
        from my_neighbour import WIDTH
        import featviz_core as fv

        class Numbers(Dataset):
            def __len__(self):
                return 4
            def __getitem__(self, index):
                return torch.full((3, 2, 2), float(Path("numbers.txt").read_text())), index % 2

        def experiment():
            model = nn.Sequential(nn.Flatten(), nn.Linear(WIDTH, 2))
            loader = DataLoader(Numbers(), batch_size=2, num_workers=1, multiprocessing_context="spawn")
            return fv.Experiment(model=model, train_loader=loader, loss_fn=nn.CrossEntropyLoss(),
                                 optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    """)
    before = Path.cwd()
    make = open_experiment(str(file))
    with at_home(make):
        made = fresh(make)
        batches = few_batches(made, made.train_loader, 2)
    assert Path.cwd() == before
    assert float(next(iter(batches))[0].mean()) == 7


def test_whoever_looks_reads_the_owner_s_files_where_they_lie(write, tmp_path):
    (tmp_path / "shade.txt").write_text("0.5", encoding="utf-8")
    file = str(
        write("""
        import torch
        from pathlib import Path
        from torch import nn
        from torch.utils.data import DataLoader, Dataset
        import featviz_core as fv

        class Shades(Dataset):
            def __len__(self):
                return 8
            def __getitem__(self, index):
                return torch.rand(3, 4, 4) * float(Path("shade.txt").read_text()), index % 2

        def experiment():
            model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
            loader = DataLoader(Shades(), batch_size=4)
            return fv.Experiment(model=model, train_loader=loader, loss_fn=nn.CrossEntropyLoss(),
                                 optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    """)
    )
    assert fv.check_experiment_data(file).splits[0].failed == 0
    assert fv.check_augmentation(file).random_train
    assert fv.check_experiment_output(file).output.shape == (8, 2)
    assert fv.experiment_activations(file).pictures == 8
    assert fv.gradient_history(file, steps=1).steps == 1
    assert len(open_for_looking(file).pictures) == 8


@pytest.mark.parametrize(
    ("body", "said", "line"),
    [
        ("def experiment(:\n    pass", r"SyntaxError: .*\(line 1\)", "def experiment(:"),
        ("import nowhere_to_be_found", "ModuleNotFoundError: No module named", "import nowhere_to_be_found"),
        ("x = 1\ny = x / 0", r"ZeroDivisionError: division by zero \(my_own_experiment.py, line 2\)", "y = x / 0"),
        ("import sys\nsys.exit(3)", "SystemExit: 3", "sys.exit(3)"),
    ],
)
def test_a_file_that_fails_shows_its_owner_s_lines(write, body, said, line):
    with pytest.raises(ExperimentError, match=said) as caught:
        open_experiment(str(write(body)))
    assert line in caught.value.trace
    assert "importlib" not in caught.value.trace
    assert "my_own_experiment" not in sys.modules


def test_a_factory_that_fails_shows_its_owner_s_lines_and_none_of_torch_s(write):
    make = open_experiment(
        str(write("from torch import nn\ndef experiment():\n    return build()\ndef build():\n    nn.Linear(2, 'two')"))
    )
    with pytest.raises(ExperimentError, match=r"TypeError: .*line 5\)") as caught:
        make()
    assert caught.value.trace.count("File ") == 2
    assert "nn.Linear(2, 'two')" in caught.value.trace
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.what, again.trace) == (caught.value.what, caught.value.trace)


def test_files_that_cannot_be_used(write, tmp_path):
    with pytest.raises(ExperimentError, match="no experiment file"):
        open_experiment(str(tmp_path / "nothing.py"))
    with pytest.raises(ExperimentError, match="already loaded"):
        open_experiment(str(write("", "random.py")))
    with pytest.raises(ExperimentError, match=r"Rename it to my_net.py"):
        open_experiment(str(write("", "my-net.py")))
    with pytest.raises(ExperimentError, match="no demo experiment"):
        open_experiment("demo/nothing")


def test_one_thread_at_a_time_is_away_from_the_working_folder(write):
    make = open_experiment(str(write(BODY)))
    before, seen = Path.cwd(), set()
    inside, go_on = threading.Event(), threading.Event()

    def first():
        with at_home(make):
            inside.set()
            go_on.wait(5)

    def second():
        inside.wait(5)
        with at_home(make):
            seen.add(Path.cwd())

    threads = [threading.Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    inside.wait(5)
    assert not seen
    go_on.set()
    for thread in threads:
        thread.join()
    assert Path.cwd() == before
    assert seen == {make.path.parent}
