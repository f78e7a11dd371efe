"""Damaged files sent to the server: thousands, of every suffix that it takes, broken at random places.

    python recipes/benchmarks/sent_files.py --files 10000        # nano, half an hour on two cores; Linux

Whole files of each format are changed in one to six places (bytes, numbers, parts that go or come twice, an early end)
and sent to a running server as fast as four clients can. None may get a 5xx or no answer, and rows of a table that are
asked meanwhile are answered all the same. Memory is that of the server's process, and of all that it started.
"""

import io
import os
import struct
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from measuring import ADDRESS, save_task, server
from PIL import Image
from scipy.io import savemat

import metatx
from metatx.cli.scripts import command

CLIENTS = 4
ODD = (0, 1, 127, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1)
RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(200, 3)).astype("<f4")
SCENE = RNG.random((6, 6, 8))


def main(*, files: int = 10_000) -> None:
    """Print the statuses by ending, the answers to the rows, and memory before and after.

    Args:
        files: Number of files to send.
    """
    whole = {name: made() for name, (_, made) in FILES.items()}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        row = tasks(folder)
        with server(folder) as memory, ThreadPoolExecutor(CLIENTS + 1) as clients:
            for name, content in whole.items():
                status, words = send(name, content)
                assert status == 200, f"the whole {name}: {status} {words}"
            before = memory()
            is_over = threading.Event()

            def rows() -> Counter[int]:
                statuses: Counter[int] = Counter()
                while not is_over.wait(0.1):
                    statuses[post("table", json={"inputs": [row]}).status_code] += 1
                return statuses

            asking = clients.submit(rows)
            names = [list(FILES)[number % len(FILES)] for number in range(files)]
            contents = (damaged(whole[name], np.random.default_rng((0, i))) for i, name in enumerate(names))
            found: dict[str, Counter[int]] = {name: Counter() for name in FILES}
            for name, (status, words) in zip(names, clients.map(send, names, contents), strict=True):
                found[name][status] += 1
                assert status < 500, f"{name}: {status} {words}"
            is_over.set()
            for name, statuses in found.items():
                print(f"{name:<6} {dict(sorted(statuses.items()))}")
            print(f"rows meanwhile {dict(asking.result())}; memory {before:.0f} MB before, {memory():.0f} after")


def tasks(folder: Path) -> Any:
    """Tasks of all modalities that read files, not trained; a row of the table's."""
    backbone = metatx.load_backbone("nano")
    save_task(backbone, "image", folder)
    samples: dict[str, list[Any]] = {
        "audio": list(RNG.normal(size=(8, 8000)).astype(np.float32) / 9),
        "point_cloud": list(RNG.normal(size=(8, 200, 3))),
        "hyperspectral": list(RNG.random((8, 8))),
        "video": list(RNG.integers(0, 256, (8, 4, 32, 32, 3), dtype=np.uint8)),
        "xray": list(RNG.integers(0, 256, (8, 32, 32), dtype=np.uint8)),
        "text": [f"words {number} and more" for number in range(8)],
    }
    for name, own in samples.items():
        options = {"min_count": 1} if name == "text" else None
        metatx.Task.from_data(backbone, name, (own, list("abababab")), tokenizer_options=options).save_pretrained(
            folder / name
        )
    return save_task(backbone, "table", folder)


def send(name: str, content: bytes) -> tuple[int, str]:
    """Status of the answer to a file, and its words."""
    answer = post(FILES[name][0], files={"file": (f"file.{name}", content)})
    return answer.status_code, answer.text[:200]


def post(task: str, **sent: Any) -> httpx2.Response:
    """The answer of a task to JSON or files."""
    return httpx2.post(f"{ADDRESS}/v1/tasks/{task}/predict", timeout=60, **sent)


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """A file with one to six changes."""
    for _ in range(rng.integers(1, 7)):
        at = int(rng.integers(len(content) + 1))
        size = int(rng.integers(1, 300))
        if rng.random() < 0.3:  # what a header says stands near the beginning
            at = int(rng.integers(min(len(content), 256) + 1))
        kind = rng.integers(5)
        if kind == 0:
            new = rng.bytes(int(rng.integers(1, 9)))
            content = content[:at] + new + content[at + len(new) :]
        elif kind == 1:
            number = struct.pack("<I" if rng.random() < 0.5 else ">I", rng.choice(ODD))
            content = content[:at] + number + content[at + 4 :]
        elif kind == 2:
            content = content[:at] + content[at + size :]
        elif kind == 3:
            content = content[:at] + content[at : at + size] * 2 + content[at + size :]
        else:
            content = content[: max(1, at)] if rng.random() < 0.3 else content
    return content or b"x"


def written(write: Callable[[Any], Any]) -> bytes:
    """The bytes that ``write`` writes to a file."""
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def picture(ending: str, mode: str = "RGB") -> bytes:
    """A picture in a format of Pillow's."""
    image = Image.fromarray(RNG.integers(0, 256, (40, 48, 3), dtype=np.uint8)).convert(mode)
    return written(lambda file: image.save(file, Image.registered_extensions()[f".{ending}"]))


def sound(kind: str) -> bytes:
    """A second of noise."""
    import soundfile

    return written(lambda file: soundfile.write(file, RNG.normal(size=8000) / 9, 8000, format=kind))


def film(kind: str) -> bytes:
    """Eight frames."""
    import av

    def write(file: io.BytesIO) -> None:
        with av.open(file, "w", format=kind) as container:
            stream = container.add_stream("mpeg4", rate=8, width=32, height=32, pix_fmt="yuv420p")
            for pixels in RNG.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode())

    return written(write)


def ply() -> bytes:
    """A binary cloud with faces."""
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(POINTS)}\n"
    head += "property float x\nproperty float y\nproperty float z\nelement face 2\n"
    head += "property list uchar int vertex_indices\nend_header\n"
    return head.encode() + POINTS.tobytes() + struct.pack("<B3iB4i", 3, 0, 1, 2, 4, 0, 1, 2, 3)


def pcd() -> bytes:
    """A binary cloud."""
    head = f"VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH {len(POINTS)}\nHEIGHT 1\n"
    return f"{head}POINTS {len(POINTS)}\nDATA binary\n".encode() + POINTS.tobytes()


# By ending: the task that reads it, and a whole file.
FILES: dict[str, tuple[str, Callable[[], bytes]]] = {
    **{ending: ("image", partial(picture, ending)) for ending in ("png", "jpg", "webp", "tiff", "gif")},
    "bmp": ("xray", partial(picture, "bmp", "L")),
    **{ending: ("audio", partial(sound, ending)) for ending in ("wav", "flac", "ogg", "mp3")},
    **{
        ending: ("video", partial(film, kind)) for ending, kind in (("mp4", "mp4"), ("avi", "avi"), ("mkv", "matroska"))
    },
    "npz": ("point_cloud", lambda: written(lambda file: np.savez_compressed(file, points=POINTS))),
    "npy": ("point_cloud", lambda: written(lambda file: np.save(file, POINTS))),
    "ply": ("point_cloud", ply),
    "pcd": ("point_cloud", pcd),
    "xyz": ("point_cloud", lambda: written(lambda file: np.savetxt(file, POINTS))),
    "mat": ("hyperspectral", lambda: written(lambda file: savemat(file, {"scene": SCENE}, do_compression=True))),
    "txt": ("text", lambda: b"A few words, of which some are long: " + os.urandom(200).hex().encode()),
}

if __name__ == "__main__":
    command(main)
