"""Films: which steps they show, what becomes of them in files, and what is said where nothing draws."""

import io

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from PIL import Image
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_gogepo import UDRL, GoGePo
from sb3_gogepo.analysis import Film, film_commands, films, renderers, write_report
from sb3_gogepo.analysis.film_files import CAPTION, LABEL, draw_film_strip, film_to_sheet, films_to_gif, show
from sb3_gogepo.analysis.films import at_step, choose_filmed
from sb3_gogepo.errors import FilmError
from tests.conftest import SMALL


class Clock(gym.Env):
    """A frame is as bright as the number of steps since the reset; the seed sets the length, the reward is the start."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012
    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, render_mode=None, size=(30, 40)):
        self.render_mode, self.size = render_mode, size

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.start = 0, float(self.np_random.uniform(-1, 1))
        self.length = 10 + int(self.np_random.integers(5))
        return np.full(2, self.start, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.full(2, self.start, np.float32), self.start, self.t == self.length, False, {}

    def render(self):
        return np.full((*self.size, 3), self.t, np.uint8)


@pytest.fixture(autouse=True)
def registered():
    gym.register("Clock-v0", entry_point=Clock)
    yield
    del gym.registry["Clock-v0"]


def make(algorithm=GoGePo, env="Clock-v0"):
    return algorithm("MlpPolicy", env, **SMALL[algorithm])


def a_film(length=4, every=2, size=(30, 40), brightness=1.0):
    steps = [*range(0, length, every), length]
    frames = np.stack([np.full((*size, 3), step * brightness, np.uint8) for step in steps])
    return Film(command=5.0, episode_return=-1234.5, length=length, every=every, frames=frames, fps=10)


@pytest.mark.parametrize("algorithm", [GoGePo, UDRL])
def test_films_show_every_kth_step_of_the_same_start(algorithm):
    env = Clock()
    env.reset(seed=7)
    model = make(algorithm).learn(40)
    filmed = film_commands(model, [1.0, 2.0], seed=7, n_frames=4)
    assert [film.command for film in filmed] == [1, 2]
    for film in filmed:
        every = -(-env.length // 4)
        assert (film.length, film.every) == (env.length, every)
        assert film.episode_return == pytest.approx(env.length * env.start, rel=1e-5)
        assert film.frames[:, 0, 0, 0].tolist() == [*range(0, env.length, every), env.length]
        assert film.fps == 10


def test_films_are_those_of_a_given_env_which_stays_open():
    class Other(Clock):
        def render(self):
            return np.full((500, 100, 3), 99, np.uint8)

        def close(self):
            raise AssertionError

    (film,) = film_commands(make().learn(40), 1.0, env=Other("rgb_array"))
    assert film.frames.shape[1:] == (200, 40, 3)  # made smaller
    assert (film.frames == 99).all()


def test_films_see_normalized_observations():
    """Films must show what the model does behind its VecNormalize: the reward is the raw one, actions follow the other."""

    class Echo(Clock):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, float(action[0]), *rest

    gym.register("Echo-v0", entry_point=Echo)
    try:
        env = VecNormalize(DummyVecEnv([lambda: gym.make("Echo-v0")]))
        model = make(env=env).learn(60)
        statistics = env.obs_rms.mean.copy()
        (film,) = film_commands(model, 1.0, seed=3)
        sweep = model.evaluate_commands(1.0, n_eval_episodes=1, seed=3)
        assert film.episode_return == pytest.approx(sweep.mean_returns[0])
        assert np.array_equal(env.obs_rms.mean, statistics)
    finally:
        del gym.registry["Echo-v0"]


def test_what_cannot_be_filmed():
    model = make().learn(40)
    with pytest.raises(ValueError, match=r"n_frames must be an integer >= 1, got 0"):
        film_commands(model, 1.0, n_frames=0)
    with pytest.raises(FilmError, match=r'must have render_mode="rgb_array" to be filmed, got None'):
        film_commands(model, 1.0, env=Clock())
    with pytest.raises(FilmError, match=r"env must be given: the model has none that is registered"):
        film_commands(make(env=Clock()).learn(40), 1.0)


def test_report_goes_on_without_a_renderer(tmp_path, monkeypatch):
    monkeypatch.setattr(renderers, "find_renderer", lambda: None)
    monkeypatch.setattr(films.sys, "platform", "linux")
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    model = GoGePo("MlpPolicy", "InvertedPendulum-v5", **SMALL[GoGePo]).learn(40)
    page = write_report(model, tmp_path, n_commands=2, n_eval_episodes=1).read_text()
    assert "No films: InvertedPendulum-v5 cannot be drawn: MuJoCo needs EGL (libegl1) or OSMesa (libosmesa6)" in page
    assert {path.name for path in tmp_path.iterdir()} == {"index.html", "commands.png", "map.png", "probing_states.png"}


def test_first_library_that_draws_is_found(monkeypatch):
    monkeypatch.setattr(renderers.sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    for drawing, found in (({"egl", "osmesa"}, "egl"), ({"osmesa"}, "osmesa"), (set(), None)):
        monkeypatch.setattr(renderers, "_draws", drawing.__contains__)
        assert renderers.find_renderer.__wrapped__() == found


def test_variable_is_set_while_films_are_made(monkeypatch):
    monkeypatch.setattr(renderers, "find_renderer", lambda: "osmesa")
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    with renderers.renderer():
        assert renderers.os.environ["MUJOCO_GL"] == "osmesa"
    assert "MUJOCO_GL" not in renderers.os.environ
    monkeypatch.setenv("MUJOCO_GL", "egl")
    with renderers.renderer():
        assert renderers.os.environ["MUJOCO_GL"] == "egl"


def test_env_that_cannot_draw():
    class Blind(Clock):
        def render(self):
            raise ImportError("no paint\nno brush")

    with pytest.raises(FilmError, match=r"Blind cannot be drawn: ImportError: no paint$"):
        film_commands(make().learn(40), 1.0, env=Blind("rgb_array"))


def test_mujoco_draws_again_and_again():
    """A film of a second env once was black, because Python freed what the first one had drawn with."""
    if renderers.find_renderer() is None:
        pytest.skip("neither EGL nor OSMesa draws on this machine")
    for env in ("InvertedPendulum-v5", "Swimmer-v5"):
        model = GoGePo("MlpPolicy", gym.make(env, max_episode_steps=3), **SMALL[GoGePo]).learn(20)
        (film,) = film_commands(model, 1.0, n_frames=2)
        assert film.frames.shape[1:] == (200, 200, 3)
        assert (film.frames.max(axis=(1, 2, 3)) > 50).all()


def test_frames_at_steps():
    film = a_film(length=5, every=2)  # steps 0, 2, 4, 5
    assert [at_step(film, step)[0, 0, 0] for step in (0, 1, 2, 4, 5, 9)] == [0, 0, 2, 4, 5, 5]


def test_filmed_commands_are_evenly_spaced():
    assert choose_filmed(np.arange(21), 5).tolist() == [0, 5, 10, 15, 20]
    assert choose_filmed(np.arange(3), 5).tolist() == [0, 1, 2]
    assert choose_filmed(np.arange(9), 1).tolist() == [0]


def test_gif_shows_all_films_and_waits_for_the_longest():
    both = [a_film(length=4, brightness=20), a_film(length=10, brightness=20)]
    gif = Image.open(io.BytesIO(films_to_gif(both)))
    assert (gif.size, gif.n_frames) == ((2 * 40 + 4, 30 + CAPTION), 6)
    gif.seek(5)
    ended, going_on = gif.convert("RGB").getpixel((20, CAPTION + 15)), gif.convert("RGB").getpixel((64, CAPTION + 15))
    assert ended[0] == pytest.approx(255 - 0.25 * (255 - 80), abs=12)
    assert going_on[0] == pytest.approx(200, abs=12)
    wide = [film._replace(frames=np.repeat(film.frames, 3, axis=2)) for film in both]
    assert Image.open(io.BytesIO(films_to_gif(wide))).size == (LABEL + 120, 2 * 30 + 4)


def test_strip_has_a_row_a_film_and_a_column_a_time():
    figure = draw_film_strip([a_film(length=4), a_film(length=10)], n_columns=3)
    grid = np.reshape(figure.axes, (2, 3))
    assert [ax.get_title() for ax in grid[0]] == ["step 0", "step 5", "step 10"]
    assert [row[0].get_ylabel() for row in grid] == ["asked 5.00\ngot -1,234\n4 steps", "asked 5.00\ngot -1,234\n10 steps"]
    drawn = [[int(ax.images[0].get_array()[0, 0, 0]) for ax in row] for row in grid]
    assert drawn == [[0, 4, 4], [0, 4, 10]]
    assert [ax.images[0].get_alpha() for ax in grid[0]] == [1, 0.25, 0.25]


def test_sheet_holds_the_frames_in_order():
    film = a_film(length=10, every=2, brightness=20)
    sheet = Image.open(io.BytesIO(film_to_sheet(film, n_columns=4))).convert("RGB")
    assert sheet.size == (4 * 40, 2 * 30)
    found = [sheet.getpixel((40 * (k % 4) + 20, 30 * (k // 4) + 15))[0] for k in range(6)]
    np.testing.assert_allclose(found, film.frames[:, 0, 0, 0], atol=3)


@pytest.mark.parametrize(
    ("value", "shown"), [(1234.5, "1,234"), (-1000.4, "-1,000"), (56.78, "56.8"), (-0.123, "-0.12"), (-0.001, "0.00")]
)
def test_returns_have_as_many_digits_as_they_need(value, shown):
    assert show(value) == shown
