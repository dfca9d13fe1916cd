import pytest
import torch
from espnet2.main_funcs import average_nbest_models
from espnet2.train import trainer


class Interruption:
    """Comes while it is saved."""

    def __reduce__(self):
        raise KeyboardInterrupt


@pytest.mark.parametrize("module", [trainer, average_nbest_models])
def test_what_is_interrupted_leaves_the_checkpoint_before(module, tmp_path):
    path = tmp_path / "checkpoint.pth"
    module.torch.save({"epoch": 1}, path)
    with pytest.raises(KeyboardInterrupt):
        module.torch.save({"epoch": 2, "model": Interruption()}, path)
    assert torch.load(path) == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [path]
