"""Films as files: a strip of frames, an animated GIF of all films side by side, and sheets of frames for the report's page."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib import font_manager
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from sb3_gogepo.analysis.films import Film, at_step

#: pixels of the GIF above each film, or left of a wide one, which hold command and return
CAPTION, LABEL = 40, 120
#: colors of GIF and sheets: more make them larger, and frames of simulators have few
N_COLORS = 96
#: frames in a row of a sheet
SHEET_COLUMNS = 8


def draw_film_strip(films: Sequence[Film], n_columns: int | None = None) -> Figure:
    """A row of frames for each film, a column for each of some times. After the end of an episode, frames are pale.

    :param films: of the same env and the same ``every``.
    :param n_columns: number of times, evenly spaced from the start to the end of the longest episode; None: 6, fewer if the
        frames are wide.
    """
    height, width = films[0].frames.shape[1:3]
    n_columns = max(2, min(6, round(8 * height / width))) if n_columns is None else n_columns
    times = np.linspace(0, max(film.length for film in films), n_columns).round().astype(int)
    frame_width = 8 / n_columns
    figure = Figure(figsize=(9.4, 0.5 + frame_width * height / width * len(films)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0)  # type: ignore[call-arg, union-attr]
    all_axes = figure.subplots(len(films), n_columns, squeeze=False)
    for film, row in zip(films, all_axes, strict=True):
        for step, ax in zip(times, row, strict=True):
            ax.imshow(at_step(film, int(step)), alpha=0.25 if step > film.length else 1.0)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        caption = f"asked {show(film.command)}\ngot {show(film.episode_return)}\n{film.length:,} steps"
        row[0].set_ylabel(caption, rotation=0, ha="right", va="center", fontsize="small", linespacing=1.3)
    for step, ax in zip(times, all_axes[0], strict=True):
        ax.set_title(f"step {step:,}", fontsize="small")
    return figure


def show(value: float) -> str:
    """A return with as many digits as it needs: 1,234, 56.7, -0.12."""
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}".replace("-0.00", "0.00")


def films_to_gif(films: Sequence[Film]) -> bytes:
    """All films at once, side by side, or one below another if they are wide; each beside its command and return.

    Those that have ended turn pale and wait for the longest.
    """
    n_frames = max(len(film.frames) for film in films)
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 14)
    height, width = films[0].frames.shape[1:3]
    are_wide = width > 2 * height
    left, top = (LABEL, 0) if are_wide else (0, CAPTION)
    images = []
    for k in range(n_frames):
        tiles = []
        for film in films:
            tile = Image.new("RGB", (left + width, top + height), "white")
            frame = film.frames[min(k, len(film.frames) - 1)]
            if k >= len(film.frames):
                frame = (255 - 0.25 * (255 - frame.astype(float))).astype(np.uint8)
            tile.paste(Image.fromarray(frame), (left, top))
            lines = f"asked {show(film.command)}\ngot {show(film.episode_return)}"
            at, anchor = ((left / 2, height / 2), "mm") if are_wide else ((width / 2, 2), "ma")
            ImageDraw.Draw(tile).multiline_text(at, lines, "black", font, anchor=anchor, align="center")
            tiles.append(tile)
        images.append(_join(tiles, are_wide))
    # one palette, of frames from all over the film: single palettes flicker, and take more room
    sample = Image.fromarray(np.concatenate([np.asarray(image) for image in images[:: max(1, n_frames // 6)]]))
    palette = sample.quantize(N_COLORS)
    frames = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    pause = round(1000 / films[0].fps)
    durations = [pause] * (n_frames - 1) + [1500]  # the end stays for a while
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=False)
    return file.getvalue()


def _join(tiles: Sequence[Image.Image], is_column: bool, gap: int = 4) -> Image.Image:
    """Pictures of one size as one: in a column, or in a row."""
    width, height = tiles[0].width + gap, tiles[0].height + gap
    n_rows, n_columns = (len(tiles), 1) if is_column else (1, len(tiles))
    joined = Image.new("RGB", (n_columns * width - gap, n_rows * height - gap), "white")
    for i, tile in enumerate(tiles):
        joined.paste(tile, (0, i * height) if is_column else (i * width, 0))
    return joined


def film_to_sheet(film: Film, n_columns: int = SHEET_COLUMNS) -> bytes:
    """PNG of all frames of a film, row by row. Few colors and no dithering make it smaller than a JPEG or WebP."""
    n_frames, height, width = film.frames.shape[:3]
    sheet = Image.new("RGB", (n_columns * width, -(-n_frames // n_columns) * height))
    for k, frame in enumerate(film.frames):
        sheet.paste(Image.fromarray(frame), ((k % n_columns) * width, (k // n_columns) * height))
    file = io.BytesIO()
    sheet.quantize(N_COLORS, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()
