"""`hwrun finetune`: train a model's head on labelled images, and write its weights for a sweep."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from shlex import quote

from hwrun.data.cifar10 import is_cifar10
from hwrun.data.images import ImageSet
from hwrun.data.opening import open_images
from hwrun.errors import BadUsageError, HwrunError
from hwrun.machine.steady import restart_if_unsteady, usable_cores
from hwrun.models.catalogue import MODEL_NAMES, catalogue_entry, with_classes
from hwrun.wire.control import MAX_SEED
from paretosim.command_line import DONE
from paretosim.whole_file import require_writable, write_whole


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `hwrun finetune`."""
    add = parser.add_argument
    add("--model", required=True, metavar="NAME", help=f"one of {', '.join(MODEL_NAMES)}")
    add("--data", required=True, metavar="DIR", help="CIFAR-10's folder, or one folder of images a class")
    add("-o", "--output", required=True, type=Path, metavar="FILE", help="safetensors to write")
    add(
        "--backbone",
        type=Path,
        metavar="FILE",
        help="safetensors with the model's pretrained state dict; its head may have other classes (default: random"
        " weights by the seed, whose features are poor)",
    )
    add("--epochs", type=int, default=20, metavar="N", help="passes over the features (default 20)")
    add("--lr", type=float, default=1e-3, metavar="X", help="learning rate at the beginning (default 0.001)")
    add("--images", type=int, metavar="N", help="training images at most (default: all; each takes a forward pass)")
    add("--test-images", type=int, default=1000, metavar="N", help="test images at most (default 1000)")
    add("--threads", type=int, default=len(usable_cores()), metavar="N", help="computing threads (default: all cores)")
    add("--seed", type=int, default=0, help="of the choice of images, their order and the first weights")


def run(arguments: argparse.Namespace) -> int:
    """Take features, train, test, write."""
    entry = catalogue_entry(arguments.model)
    for option in ("epochs", "images", "test_images", "threads"):
        if (value := getattr(arguments, option)) is not None and value < 1:
            raise BadUsageError(f"--{option.replace('_', '-')}: got {value}, expected 1 or more")
    if arguments.threads > (cores := len(usable_cores())):  # of thousands torch dies without a word
        raise BadUsageError(f"--threads: got {arguments.threads}, at most {cores}, the number of cores")
    if not 0 <= arguments.seed < MAX_SEED:
        raise BadUsageError(f"--seed: got {arguments.seed}, expected a whole number of 0 or more, below 2^63")
    if not 0 < arguments.lr < float("inf"):
        raise BadUsageError(f"--lr: got {arguments.lr}, expected a number above zero, such as 0.001")
    training, test = _images(arguments.data)
    if not training.labels:
        raise BadUsageError(f"--data {arguments.data}: its images have no labels, expected one folder of them a class")
    _check_output(arguments.output)
    restart_if_unsteady(arguments.threads)
    import torch
    from safetensors.torch import save

    from hwrun.data.finetuning import Features, features_of, share_right, train_head
    from hwrun.models.catalogue import build_model
    from hwrun.models.head import head_name, weighted_reference

    torch.set_num_threads(arguments.threads)
    reference = with_classes(entry.name, len(training.classes))
    module = build_model(reference, seed=arguments.seed)
    if arguments.backbone is None:
        print("hwrun finetune: no --backbone, so features are of random weights, and poor", file=sys.stderr)
    else:
        pretrained = build_model(weighted_reference(entry.name, arguments.backbone), weights=arguments.backbone)
        own = module.state_dict()
        fitting = {key: value for key, value in pretrained.state_dict().items() if own[key].shape == value.shape}
        module.load_state_dict(own | fitting)
    head = head_name(module)
    count = min(training.size, arguments.images or training.size)

    def features(images: ImageSet, most: int, what: str) -> Features:
        numbers = images.chosen(min(images.size, most), arguments.seed)
        return features_of(module, head, images, numbers, entry.input_shape, _progress(what))

    taken = features(training, count, "features of training images")
    layer = train_head(
        taken,
        len(training.classes),
        epochs=arguments.epochs,
        learning_rate=arguments.lr,
        seed=arguments.seed,
        on_epoch=lambda epoch: print(
            f"epoch {epoch.number}: loss {epoch.loss:.4f}, validation top-1 {epoch.validation_top1:.1%}", flush=True
        ),
    )
    if test is not None:
        tested = features(test, arguments.test_images, "features of test images")
        print(f"test top-1: {share_right(layer, tested):.1%} of {len(tested.rows)} images")
    module.get_submodule(head).load_state_dict(layer.state_dict())
    whole = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    _write(arguments.output, save(whole, {"model": reference, "data": training.identity}))
    print(f"wrote {arguments.output}")
    print(
        f"use it with: hwrun sweep --model {entry.name} --weights {quote(f'{entry.name}={arguments.output}')}"
        f" --data {quote(arguments.data)}"
    )
    return DONE


def _check_output(path: Path) -> None:
    """Refuse what cannot become a file, before an hour of computing is lost to it."""
    try:
        if path.is_dir():
            raise BadUsageError(f"-o {path}: is a folder, expected a file in it, such as {path / 'tuned.safetensors'}")
        folder = path.resolve().parent  # a link goes on pointing where it does
        if not folder.is_dir():
            raise BadUsageError(f"-o {path}: its folder is not there, expected one; make it first")
        if path.is_file() or not path.exists():  # others, such as pipes, are written to where they are
            require_writable(folder)
    except (OSError, RuntimeError) as error:  # a name that is too long; links that lead to themselves
        why = error.strerror if isinstance(error, OSError) else error
        raise BadUsageError(f"-o {path}: cannot be written: {why}; give another") from error


def _images(text: str) -> tuple[ImageSet, ImageSet | None]:
    """Images to train on, and others to test on where the data come with some."""
    training = open_images(text, "train")
    if training is None:
        raise BadUsageError(f"--data: got {text}, expected images: there is nothing to learn from synthetic ones")
    return training, open_images(text, "test") if is_cifar10(Path(text)) else None


def _progress(what: str) -> Callable[[int, int], None]:
    """Shows how far it is, where stderr is a terminal."""

    def show(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"{what}: {done} of {total}", end="\r" if done < total else "\n", file=sys.stderr, flush=True)

    return show


def _write(path: Path, content: bytes) -> None:
    """The whole file or none."""
    try:
        write_whole(path, lambda unfinished: unfinished.write_bytes(content))
    except OSError as error:
        raise HwrunError(f"-o {path}: cannot be written: {error.strerror or error}; give another") from error
