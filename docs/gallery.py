"""The film, the page and the pictures of Swimmer in the gallery: ``python docs/gallery.py`` trains and draws them again.

It needs the extra ``plots``, EGL or OSMesa, and ten minutes on a free core. A model that lies in ``gallery/`` already is not
trained again.
"""

import shutil
from pathlib import Path

import gymnasium as gym
import torch as th

from sb3_gogepo import GoGePo
from sb3_gogepo.analysis import StageCallback, load_stages, write_report
from sb3_gogepo.analysis.renderers import renderer

DOCS = Path(__file__).parent
FOLDER = DOCS.parent / "gallery"
#: from above, wide enough for the way that the best policy makes: each film is a lane of a swimming pool
LANE = {"distance": 11.0, "lookat": [5.5, -3.0, 0.0], "elevation": -80.0, "azimuth": 90.0}


def train(path: Path) -> GoGePo:
    """A model of Swimmer, which is saved with its buffer and stages."""
    model = GoGePo("Swimmer-v5", probe_after=0.0, seed=1)
    model.learn(300_000, callback=StageCallback(every=60_000, path=path.with_name("stages.pt")))
    model.save_replay_buffer(path.with_name("replay_buffer.pt"))
    model.save(path)
    return model


def main() -> None:
    """Train if need be, then write ``docs/figures/gallery`` and ``docs/pages``."""
    th.set_num_threads(1)
    path = FOLDER / "swimmer" / "model.zip"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        train(path)
    model = GoGePo.load(path, env="Swimmer-v5")
    model.load_replay_buffer(path.with_name("replay_buffer.pt"))
    with renderer():
        env = gym.make("Swimmer-v5", render_mode="rgb_array", width=480, height=240)
        mujoco_renderer = env.get_wrapper_attr("mujoco_renderer")
        mujoco_renderer.default_cam_config = LANE
        mujoco_renderer.model.vis.quality.shadowsize = 0  # shadows take most of the time on a CPU
        report = path.with_name("report")
        stages = load_stages(path.with_name("stages.pt"))
        title = f"GoGePo on Swimmer-v5, {model.num_timesteps:,} env steps"
        write_report(model, report, title=title, stages=stages, n_eval_episodes=3, film_env=env)
    figures = DOCS / "figures" / "gallery"
    figures.mkdir(parents=True, exist_ok=True)
    for name in ("films.gif", "films.png", "commands.png", "map.png", "probing_states.png"):
        shutil.copy(report / name, figures / f"swimmer_{name}")
    (DOCS / "pages").mkdir(exist_ok=True)
    shutil.copy(report / "index.html", DOCS / "pages" / "swimmer.html")


if __name__ == "__main__":
    main()
