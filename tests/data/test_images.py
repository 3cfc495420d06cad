"""Images in one archive: their own bytes, the same each time, in forked and pickled readers."""

import copy
import io
import json
import multiprocessing
import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from overtrain import PipelineError
from overtrain.data import images
from overtrain.data.images import Images


def encoded(seed: int, kind: str = "PNG", size: tuple[int, int] = (5, 7)) -> bytes:
    """An image of noise, of a width and a height."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


SOME = {"a/0.png": encoded(0), "b.jpg": encoded(1, "JPEG"), "c.gif": encoded(2, "GIF")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images.write(tmp_path / "images", SOME.items())
    return tmp_path / "images"


def test_images_are_the_bytes_that_came_and_decode_to_rgb(folder: Path):
    found = Images(folder)
    assert len(found) == 3 and "b.jpg" in found and "d.png" not in found
    assert {name: found.bytes(name) for name in SOME} == SOME
    expected = np.asarray(Image.open(io.BytesIO(SOME["a/0.png"])))
    assert found["a/0.png"].mode == "RGB" and found["a/0.png"].size == (5, 7)
    np.testing.assert_array_equal(np.asarray(found["a/0.png"]), expected)
    assert found["c.gif"].mode == "RGB"  # of a palette in the file
    with zipfile.ZipFile(folder / "images.zip") as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_the_same_images_are_the_same_files(folder: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 2e9)
    again = images.write(tmp_path / "again", SOME.items())
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["images.zip", "manifest.json"]
    assert all((folder / n).read_bytes() == (tmp_path / "again" / n).read_bytes() for n in names)
    assert again == json.loads((folder / "manifest.json").read_text())
    assert (again["images"], again["bytes"]) == (3, sum(map(len, SOME.values())))
    renamed = [(name.replace("b", "d"), data) for name, data in SOME.items()]
    other = [(name, data[:-1]) for name, data in SOME.items()]
    hashes = {images.write(tmp_path / "n", own)["sha256"] for own in (SOME.items(), renamed, other)}
    assert len(hashes) == 3 and again["sha256"] in hashes


def read(found: Images, name: str, queue) -> None:
    try:
        queue.put((name, {found.bytes(name) for _ in range(100)}))
    except PipelineError as error:
        queue.put((name, {str(error)}))


def test_forked_readers_do_not_disturb_each_other(tmp_path: Path):
    large = {f"{i}.png": encoded(i, size=(200, 200)) for i in range(3)}  # more than is read ahead
    images.write(tmp_path / "images", large.items())
    found = Images(tmp_path / "images")
    assert found.bytes("0.png") == large["0.png"]  # the archive is open before they fork
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads that the tests have
        readers = [context.Process(target=read, args=(found, name, queue)) for name in large]
        for reader in readers:
            reader.start()
    results = dict(queue.get(timeout=60) for _ in readers)
    for reader in readers:
        reader.join()
    assert results == {name: {data} for name, data in large.items()}


def test_forked_readers_share_the_list_of_members(folder: Path, monkeypatch):
    """LLaVA's is read in seconds and holds 100 MB or more, which 16 processes must not all do."""
    found = Images(folder)
    assert len(copy.deepcopy(found).archive.namelist()) == len(SOME)  # datasets copies what it has
    monkeypatch.setattr(images, "open_archive", lambda path: pytest.fail("opened again"))
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        reader = context.Process(target=read, args=(found, "b.jpg", queue))
        reader.start()
    assert queue.get(timeout=60) == ("b.jpg", {SOME["b.jpg"]})
    reader.join()


def test_a_reader_may_be_pickled_with_its_archive_open(folder: Path):
    found = Images(folder)
    found["b.jpg"]
    again = pickle.loads(pickle.dumps(found))
    assert again.bytes("c.gif") == SOME["c.gif"]


def test_what_is_wrong_names_file_and_image(folder: Path, tmp_path: Path):
    images.write(tmp_path / "bad", [("cut.png", SOME["a/0.png"][:-30]), ("text.png", b"hello")])
    with pytest.raises(PipelineError, match=r"images\.zip: no image 'd\.png'"):
        Images(folder)["d.png"]
    for name, why in (("cut.png", "cannot be decoded"), ("text.png", "is no image of a known")):
        with pytest.raises(PipelineError, match=rf"bad/images\.zip: {name}: {why}"):
            Images(tmp_path / "bad")[name]
    path = folder / "images.zip"
    data = path.read_bytes()
    start = data.index(SOME["b.jpg"])
    path.write_bytes(data[: start + 9] + b"\0\0\0" + data[start + 12 :])
    with pytest.raises(PipelineError, match=r"images\.zip: b\.jpg: Bad CRC-32"):
        Images(folder)["b.jpg"]
    path.write_bytes(data[:-5])
    with pytest.raises(PipelineError, match=r"images\.zip: not a readable zip archive"):
        Images(folder)["b.jpg"]


def test_nothing_is_left_where_two_images_have_one_name(tmp_path: Path):
    with pytest.raises(PipelineError, match="two images are named 'a'"):
        images.write(tmp_path / "images", [("a", b"1"), ("a", b"2")])
    assert not list(tmp_path.iterdir())


def test_whole_images_come_in_order_and_broken_ones_as_none(capsys):
    data = {f"{i:03d}.png": encoded(i) for i in range(300)}
    data["150.png"] = data["150.png"][:60]
    found = list(images.whole(data, data.__getitem__, threads=2))
    assert [name for name, _ in found] == list(data)
    assert [name for name, own in found if own is None] == ["150.png"]
    assert "150.png: cannot be decoded" in capsys.readouterr().out


def test_a_damaged_member_of_a_compressed_archive_is_a_broken_image(tmp_path: Path):
    path, large = tmp_path / "some.zip", encoded(0, size=(50, 50))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a.png", "b.png"):
            archive.writestr(name, large)
    data = bytearray(path.read_bytes())
    data[35] = 0xFF  # the first byte of a.png, behind its header
    path.write_bytes(data)
    read = images.open_archive(path).read
    assert list(images.whole(["a.png", "b.png"], read, 1)) == [("a.png", None), ("b.png", large)]


def test_few_images_are_held_at_a_time():
    asked = []

    def read_one(name: str) -> bytes:
        asked.append(name)
        return SOME["b.jpg"]

    found = images.whole(map(str, range(1000)), read_one, threads=2)
    next(found)
    assert 0 < len(asked) <= 2 * images.AT_A_TIME
