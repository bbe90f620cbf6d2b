"""CIFAR-10 in small, in its own formats: each class is a colour of its own with a little noise."""

import pickle

import numpy as np

NAMES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")


def images(count, seed):
    """Rows of 3072 bytes, a red, a green and a blue plane, and labels, every class in turn."""
    draw = np.random.default_rng(seed)
    colours = np.random.default_rng(7).integers(0, 256, (10, 3))
    labels = [number % 10 for number in range(count)]
    planes = np.repeat(colours[labels], 1024, axis=1) + draw.integers(-20, 21, (count, 3072))
    return np.clip(planes, 0, 255).astype(np.uint8), labels


def write_binary(folder, per_file=20):
    folder.mkdir(parents=True)
    for seed, name in enumerate(NAMES):
        data, labels = images(per_file, seed)
        records = np.concatenate([np.array(labels, np.uint8)[:, None], data], axis=1)
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    return folder


def write_pickled(folder, per_file=20, protocol=2):
    folder.mkdir(parents=True)
    for seed, name in enumerate(NAMES):
        data, labels = images(per_file, seed)
        content = {b"data": data, b"labels": labels, b"batch_label": b"tiny", b"filenames": [b"a.png"] * per_file}
        (folder / name).write_bytes(pickle.dumps(content, protocol))
    return folder


def python2_pickle(data, labels):
    """The pickle that Python 2 writes, with its byte strings, as the distributed files are."""

    def short(text):
        return b"U" + bytes([len(text)]) + text

    rows, columns = data.shape
    raw = data.tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + short(b"b") + b"tR"
        + b"(K\x01(M" + rows.to_bytes(2, "little") + b"M" + columns.to_bytes(2, "little") + b"t"
        + b"cnumpy\ndtype\n(" + short(b"u1") + b"K\x00K\x01tR(K\x03" + short(b"|") + b"NNNJ" + b"\xff" * 4
        + b"J" + b"\xff" * 4 + b"K\x00tb"
        + b"\x89T" + len(raw).to_bytes(4, "little") + raw + b"tb"
    )  # fmt: skip
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + short(b"data") + array + short(b"labels") + numbers + b"u."
