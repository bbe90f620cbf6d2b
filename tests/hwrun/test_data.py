"""Images from disk: CIFAR-10 in both its versions, folders, and what a model is given of them."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hwrun.data.cifar10 import read_cifar10, read_plain_pickle
from hwrun.data.opening import open_images
from hwrun.data.preparing import correct, prepared
from hwrun.errors import BadUsageError
from tests.hwrun.tiny_cifar10 import NAMES, images, python2_pickle, write_binary, write_pickled


@pytest.fixture(params=["binary", "pickled 2", "pickled 4"])
def folder(request, tmp_path):
    if request.param == "binary":
        return write_binary(tmp_path / "cifar-10-batches-bin")
    return write_pickled(tmp_path / "cifar-10-batches-py", protocol=int(request.param[-1]))


def test_both_versions_of_cifar10_hold_the_same_images_and_labels(folder):
    test, train = open_images(str(folder)), open_images(str(folder), "train")
    data, labels = images(20, 5)
    assert (test.size, train.size) == (20, 100)
    assert test.labels == tuple(labels)
    assert test.classes[0] == "airplane"
    pixels = test.load(3)
    assert (pixels.shape, pixels.dtype) == ((32, 32, 3), np.uint8)
    assert np.array_equal(pixels[:, :, 1].ravel(), data[3, 1024:2048])
    assert np.array_equal(train.load(99)[:, :, 0].ravel(), images(20, 4)[0][19, :1024])
    assert test.identity != train.identity


def test_the_pickle_that_python_2_wrote_is_read():
    data, labels = images(20, 0)
    found = read_plain_pickle(python2_pickle(data, labels), Path("data_batch_1"))
    assert np.array_equal(found[b"data"], data)
    assert found[b"labels"] == labels


class Attack:
    def __init__(self, function, *arguments):
        self._how = function, arguments

    def __reduce__(self):
        return self._how


@pytest.mark.parametrize(
    "what",
    [
        Attack(os.system, "touch {marker}"),
        Attack(eval, "open({marker!r}, 'w')"),
        Attack(getattr, "a", "b"),
        Attack(np.load, "{marker}"),
        {b"data": Attack(os.system, "touch {marker}"), b"labels": []},
        torch.zeros(1),
        np.array([os.system], dtype=object),
        Path("/"),
    ],
    ids=lambda what: type(what).__name__,
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_asks_for_anything_else_is_not_read_on(what, protocol, tmp_path):
    marker = tmp_path / "marker"
    if isinstance(what, Attack):
        function, arguments = what._how
        what = Attack(function, *(argument.format(marker=str(marker)) for argument in arguments))
    with pytest.raises(BadUsageError, match=r"its pickle asks for|is not a whole pickle"):
        read_plain_pickle(pickle.dumps(what, protocol), tmp_path / "test_batch")
    assert not marker.exists()


@pytest.mark.parametrize("raw", [b"", b"\x80\x02", b"not a pickle", b"\x80\x02}(U\x04da", b"\x80\x04P1\n."])
def test_a_broken_pickle_is_bad_input(raw):
    with pytest.raises(BadUsageError, match="test_batch"):
        read_plain_pickle(raw, Path("test_batch"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "expected a dictionary of data"),
        ({b"data": np.zeros((2, 10), np.uint8), b"labels": [0, 1]}, "expected a dictionary of data"),
        ({b"data": np.zeros((2, 3072), np.float32), b"labels": [0, 1]}, "expected a dictionary of data"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}, "expected a dictionary of data"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 10]}, "holds labels other than 0 to 9"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, True]}, "holds labels other than 0 to 9"),
    ],
)
def test_a_sound_pickle_of_something_else_is_named(content, message, tmp_path):
    (tmp_path / "test_batch").write_bytes(pickle.dumps(content, 2))
    with pytest.raises(BadUsageError, match=message):
        read_cifar10(tmp_path, "test")


def test_a_missing_or_short_file_is_named(tmp_path):
    folder = write_binary(tmp_path / "bin")
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(BadUsageError, match=r"data_batch_3\.bin: cannot be read"):
        read_cifar10(folder, "train")
    path = folder / f"{NAMES[-1]}.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadUsageError, match="expected whole records of 3073"):
        read_cifar10(folder, "test")


def picture(path, colour, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def test_folders_of_images_are_classes_by_their_sorted_names(tmp_path):
    picture(tmp_path / "dog" / "1.png", "red")
    picture(tmp_path / "cat" / "b.jpg", "lime")
    picture(tmp_path / "cat" / "a.png", "blue")
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "empty").mkdir()
    found = open_images(str(tmp_path))
    assert (found.size, found.labels, found.classes) == (3, (0, 0, 1), ("cat", "dog"))
    assert found.load(2)[0, 0].tolist() == [255, 0, 0]
    assert found.load(0).shape == (30, 40, 3)


def test_images_in_one_folder_have_no_labels(tmp_path):
    picture(tmp_path / "a.png", "red")
    found = open_images(str(tmp_path))
    assert (found.size, found.labels, found.classes) == (1, (), ())
    assert found.labels_of((0,)) == ()


def test_what_is_no_folder_of_images_says_so(tmp_path):
    with pytest.raises(BadUsageError, match="expected synthetic, a folder of images, or one of CIFAR-10"):
        open_images(str(tmp_path / "nowhere"))
    with pytest.raises(BadUsageError, match="holds no image"):
        open_images(str(tmp_path))
    picture(tmp_path / "a.png", "red")
    picture(tmp_path / "cat" / "a.png", "red")
    with pytest.raises(BadUsageError, match="expected one or the other"):
        open_images(str(tmp_path))
    broken = tmp_path / "only" / "broken.png"
    broken.parent.mkdir()
    broken.write_bytes(b"no picture")
    with pytest.raises(BadUsageError, match=r"broken\.png: cannot be read as an image"):
        open_images(str(broken.parent)).load(0)


def test_a_damaged_image_is_named_whatever_pillow_raises_over_it(tmp_path):
    (tmp_path / "a.ppm").write_bytes(b"P6\n12x 90\n255\n")
    picture(tmp_path / "b.png", "red")
    whole = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole.replace(b"IDAT", b"ID\xd2T"))
    for number, name in enumerate(("a.ppm", "b.png")):
        with pytest.raises(BadUsageError, match=rf"{name}: cannot be read as an image .*take it out of the folder"):
            open_images(str(tmp_path)).load(number)


def test_synthetic_is_no_set_of_images():
    assert open_images("synthetic") is None


def test_chosen_images_are_the_same_for_a_seed_and_more_begin_with_the_fewer(tmp_path):
    found = read_cifar10(write_binary(tmp_path / "bin"), "test")
    assert found.chosen(5, 1) == found.chosen(20, 1)[:5]
    assert sorted(found.chosen(20, 1)) == list(range(20))
    assert found.chosen(20, 1) != found.chosen(20, 2)
    with pytest.raises(BadUsageError, match="holds 20 images, expected 21 or more"):
        found.chosen(21, 0)


@pytest.mark.parametrize("size", [(40, 30), (600, 400), (300, 900), (299, 299)])
def test_images_of_any_size_become_the_models_size_centred_as_it_was_trained(tmp_path, size):
    picture(tmp_path / "a.png", (124, 116, 104), size)  # ImageNet's mean colour
    batch = prepared(open_images(str(tmp_path)), (0, 0), (3, 299, 299))
    assert (batch.shape, batch.dtype) == ((2, 3, 299, 299), torch.float32)
    assert batch.abs().max() < 0.02
    assert torch.equal(batch[0], batch[1])


def test_a_large_image_loses_its_margin_and_a_small_one_nothing(tmp_path):
    large = Image.new("RGB", (640, 640), "black")
    large.paste("white", (30, 30, 610, 610))  # a frame that is less than the margin, a sixteenth, which is cut off
    large.save(tmp_path / "a.png")
    small = large.resize((32, 32))
    small.save(tmp_path / "b.png")
    batch = prepared(open_images(str(tmp_path)), (0, 1), (3, 224, 224))
    assert batch[0].min() > 2.0
    assert batch[1].min() < -1.7


def test_a_model_without_colour_images_takes_none(tmp_path):
    picture(tmp_path / "a.png", "red")
    with pytest.raises(BadUsageError, match=r"takes inputs of shape \(16,\), expected colour images"):
        prepared(open_images(str(tmp_path)), (0,), (16,))


def test_the_largest_output_is_the_answer():
    assert correct(torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.4]]), (1, 0, 0)) == 2
