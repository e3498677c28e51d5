import numpy as np
import pytest
import torch as th

from sb3_gogepo import GoGePo
from tests.toy_envs import Seeded

pytestmark = pytest.mark.skipif(not th.cuda.is_available(), reason="needs a GPU")
OBSERVATIONS = np.array([[0.5, 0.0], [-0.5, 3.0]], np.float32)


def test_a_model_trained_on_the_gpu_goes_on_on_the_cpu_and_back(make_model, tmp_path):
    model = make_model(device="cuda").learn(30)
    assert all(parameter.is_cuda for parameter in model.policy.parameters())
    for device in ("cpu", "cuda"):
        model.save(tmp_path / "model")
        model.save_replay_buffer(tmp_path / "buffer")
        loaded = GoGePo.load(tmp_path / "model", env=Seeded(), device=device)
        loaded.load_replay_buffer(tmp_path / "buffer")
        assert all(parameter.device.type == device for parameter in loaded.policy.parameters())
        np.testing.assert_allclose(loaded.predict(OBSERVATIONS)[0], model.predict(OBSERVATIONS)[0], rtol=1e-3, atol=1e-4)
        model = loaded.learn(30, reset_num_timesteps=False)
    assert model.generate_policy(1.0).predict(OBSERVATIONS)[0].shape == (2, 1)


def test_a_policy_that_has_acted_acts_on_another_device(make_model, tmp_path):
    policy = make_model(device="cpu").policy
    actions = policy.predict(OBSERVATIONS)[0]
    policy.save(tmp_path / "policy")
    for moved in (policy.to("cuda"), type(policy).load(tmp_path / "policy", device="cuda")):
        np.testing.assert_allclose(moved.predict(OBSERVATIONS)[0], actions, rtol=1e-3, atol=1e-4)
