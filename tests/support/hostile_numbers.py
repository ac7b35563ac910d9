"""Hostile files of plain numbers and of EDF: a name -> (a function that writes it, part of the error)."""

import io
import os
import pickle
import struct
import zipfile
import zlib

import numpy as np
from format_writers import WRITERS, write_statement


def of_bytes(make_content, name, **stated):
    """Return a function that writes a file, with a statement beside it, into a folder."""

    def write(folder):
        write_statement(folder, **({"unit": "mV", "leads": "standard"} | stated))
        content = make_content()
        (folder / name).write_bytes(content)
        return folder / name

    return write


# NumPy


def npy(shape="(12, 5000)", kind="<f8", data=b"", padding=0):
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}".encode()
    header += b" " * padding + b"\n"
    return b"\x93NUMPY\2\0" + struct.pack("<I", len(header)) + header + data


def npz(members, method=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method, compresslevel=1) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def pickled():
    """A pickle that makes a file when it is loaded."""

    class Harm:
        def __reduce__(self):
            return os.mkdir, ("unpickled",)

    stream = io.BytesIO()
    np.save(stream, np.array([Harm()], object), allow_pickle=True)
    return stream.getvalue()


def encrypted():
    """An archive in which every entry says that it is encrypted."""
    content = bytearray(npz({"ecg.npy": npy(data=bytes(480_000))}))
    content[6] |= 1
    content[content.find(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


# MATLAB


def element(kind, content, size=None):
    padding = b"" if kind == 15 else bytes(-len(content) % 8)
    return struct.pack("<II", kind, len(content) if size is None else size) + content + padding


def matrix(shape=(12, 5000), data=b"", declared=None, n_class=6):
    parts = element(6, struct.pack("<II", n_class, 0)) + element(5, struct.pack(f"<{len(shape)}i", *shape))
    return parts + element(1, b"ecg") + element(9, data, declared)


def mat(*elements):
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + b"".join(elements)


def packed(content):
    return element(15, zlib.compress(content, 1))


def mat_bomb():
    """What declares a gigabyte and expands to twice what is allowed, in half a megabyte."""
    compressor = zlib.compressobj(1)
    pieces = [compressor.compress(struct.pack("<II", 14, 2**30) + matrix(data=b"", declared=2**30))]
    pieces += [compressor.compress(bytes(2**24)) for _ in range(8)]
    return mat(element(15, b"".join(pieces) + compressor.flush()))


# HDF5


def hdf5(make):
    """Return a function that writes an HDF5 file after `make` has filled it."""

    def write(folder):
        import h5py

        write_statement(folder, unit="mV", leads="standard")
        with h5py.File(folder / "ecg.h5", "w") as file:
            make(file)
        return folder / "ecg.h5"

    return write


def chunk_bomb(file):
    """A chunk of 480 kB that expands to 128 MB."""
    dataset = file.create_dataset("ecg", (12, 5000), "f8", chunks=(12, 5000), compression="gzip")
    compressor = zlib.compressobj(1)
    pieces = [compressor.compress(bytes(2**24)) for _ in range(8)]
    dataset.id.write_direct_chunk((0, 0), b"".join(pieces) + compressor.flush())


def huge_chunk(file):
    dataset = file.create_dataset("ecg", (12, 5000), "f8", chunks=(12, 40_000_000), maxshape=(12, None))
    dataset.resize((12, 5000))


def external_link(file):
    import h5py

    file["ecg"] = h5py.ExternalLink("/etc/passwd", "/ecg")


def external_storage(file):
    file.create_dataset("ecg", (12, 5000), "u1", external=[("/etc/services", 0, 60_000)])


def virtual(file):
    import h5py

    layout = h5py.VirtualLayout((12, 5000), "f8")
    layout[:] = h5py.VirtualSource("/etc/passwd", "ecg", (12, 5000))
    file.create_virtual_dataset("ecg", layout)


def circle(file):
    file["a/b/c"] = np.zeros(3)
    file["a/b/again"] = file["a"]


def many_groups(file):
    for number in range(3000):
        file.create_group(f"g{number}")


def soft_circle(file):
    import h5py

    file["a"], file["b"] = h5py.SoftLink("/b"), h5py.SoftLink("/a")


def other_filter(file):
    file.create_dataset("ecg", data=np.zeros((12, 5000)), compression="lzf")


# EDF


def edf(*changes):
    """Return a function that writes an EDF in which texts, (position, text), are changed."""

    def write(folder):
        WRITERS["EDF"](folder / "ecg.edf", np.zeros((12, 5000), int))
        content = (folder / "ecg.edf").read_bytes()
        for position, text in changes:
            content = content[:position] + text + content[position + len(text) :]
        (folder / "ecg.edf").write_bytes(content)
        return folder / "ecg.edf"

    return write


def many_edf_signals():
    n = 9999
    head = b"0".ljust(184) + f"{256 * (n + 1):<8}".encode() + b" " * 44 + b"1       1       " + b"9999"
    return head + b"1       ".ljust(256) * n


ROW = b",".join([b"0.1"] * 12) + b"\n"
N_SIGNALS, SAMPLES, PHYSICAL = 252, 256 + 13 * 216, 256 + 13 * 104
REFUSED_NUMBERS = {
    "NumPy bomb": (
        of_bytes(lambda: npz({"ecg.npy": npy("(12, 100000000)") + bytes(2**27)}), "ecg.npz"),
        "7,500,000",
    ),
    "NumPy, too many arrays": (
        of_bytes(lambda: npz({f"{n}.npy": b"" for n in range(20_000)}), "ecg.npz"),
        "arrays",
    ),
    "NumPy, one array of many": (
        of_bytes(lambda: npz({f"{n}.npy": npy() for n in range(999)}), "ecg.npz"),
        "999",
    ),
    "NumPy, other compression": (
        of_bytes(lambda: npz({"a.npy": npy()}, zipfile.ZIP_LZMA), "ecg.npz"),
        "no array",
    ),
    "NumPy, encrypted": (of_bytes(encrypted, "ecg.npz"), "damaged or packed in another way"),
    "NumPy, pickled": (of_bytes(pickled, "ecg.npy"), "pickled Python objects, which are never loaded"),
    "NumPy, pickled in an archive": (of_bytes(lambda: npz({"ecg.npy": pickled()}), "ecg.npz"), "no array"),
    "NumPy, a pickle": (of_bytes(lambda: pickle.dumps(np.zeros((12, 5000))), "ecg.npy"), "a Python pickle"),
    "NumPy, 2**62 samples": (of_bytes(lambda: npy(f"(12, {2**62})"), "ecg.npy"), "7,500,000"),
    "NumPy, 2**70 samples": (of_bytes(lambda: npy(f"(12, {2**70})"), "ecg.npy"), ""),
    "NumPy, negative shape": (
        of_bytes(lambda: npy("(-12, 5000)", data=bytes(999)), "ecg.npy"),
        "shape (-12, 5000)",
    ),
    "NumPy, a truth value in the shape": (
        of_bytes(lambda: npy("(True, 12, 5000)", data=bytes(480_000)), "ecg.npy"),
        "shape (True, 12, 5000)",
    ),
    "NumPy, a truth value in the shape, in an archive": (
        of_bytes(lambda: npz({"ecg.npy": npy("(True, 12, 5000)", data=bytes(480_000))}), "ecg.npz"),
        "shape (True, 12, 5000)",
    ),
    "NumPy, 72 dimensions": (
        of_bytes(lambda: npy(f"({'1, ' * 70}12, 5000)", data=bytes(480_000)), "ecg.npy"),
        "shape (1, 1, 1, 1, 1, 1, 1, 1)",
    ),
    "NumPy, nothing after the header": (of_bytes(npy, "ecg.npy"), "0 of 480,000 bytes"),
    "NumPy, header of 20 MB": (of_bytes(lambda: npy(padding=20_000_000), "ecg.npy"), "header"),
    "NumPy, nested header": (of_bytes(lambda: npy("(" * 9000), "ecg.npy"), "header"),
    "NumPy, fields": (of_bytes(lambda: npy(kind="V8", data=bytes(480_000)), "ecg.npy"), "an array of"),
    "MATLAB bomb": (of_bytes(mat_bomb, "ecg.mat"), "bytes of an array of 480,000"),
    "MATLAB, 2 GB declared": (
        of_bytes(lambda: mat(element(14, matrix(), 2**31 - 8)), "ecg.mat"),
        "ends within",
    ),
    "MATLAB, 2 GB declared within": (
        of_bytes(lambda: mat(element(14, matrix(declared=2**31))), "ecg.mat"),
        "0 bytes",
    ),
    "MATLAB, absurd shape": (
        of_bytes(lambda: mat(element(14, matrix((2**31 - 1, 12)))), "ecg.mat"),
        "7,500,000",
    ),
    "MATLAB, negative shape": (
        of_bytes(lambda: mat(element(14, matrix((-5000, 12)))), "ecg.mat"),
        "no array",
    ),
    "MATLAB, a million arrays": (of_bytes(lambda: mat(element(14, b"") * 1_000_000), "ecg.mat"), "damaged"),
    "MATLAB, many arrays": (
        of_bytes(lambda: mat(packed(struct.pack("<II", 9, 8)) * 10_000), "ecg.mat"),
        "1,001",
    ),
    "MATLAB, a cell": (of_bytes(lambda: mat(element(14, matrix(n_class=1))), "ecg.mat"), "no array"),
    "MATLAB 4, 16 EB declared": (
        of_bytes(lambda: struct.pack("<5I", 0, 2**32 - 1, 2**32 - 1, 0, 4) + b"ecg\0", "ecg.mat"),
        "7,500,000",
    ),
    "HDF5 bomb": (hdf5(chunk_bomb), "a chunk that expands to more than it declares"),
    "HDF5, huge chunk": (hdf5(huge_chunk), "chunks of 3,840,000,000 bytes"),
    "HDF5, absurd shape": (
        hdf5(lambda file: file.create_dataset("ecg", (12, 2**40), "f8", chunks=(1, 1000))),
        "7,500",
    ),
    "HDF5, external link": (hdf5(external_link), "HDF5"),
    "HDF5, external storage": (hdf5(external_storage), "empty, or stored in another file"),
    "HDF5, virtual data set": (hdf5(virtual), "a virtual data set"),
    "HDF5, groups in a circle": (hdf5(circle), "more parts than one ECG needs"),
    "HDF5, links in a circle": (hdf5(soft_circle), "HDF5"),
    "HDF5, thousands of groups": (hdf5(many_groups), "more parts than one ECG needs"),
    "HDF5, another filter": (hdf5(other_filter), "a data set with the filters '[32000]'"),
    "HDF5, the signature alone": (of_bytes(lambda: b"\x89HDF\r\n\x1a\n" + bytes(5000), "ecg.h5"), "damaged"),
    "EDF of 9,999 signals": (of_bytes(many_edf_signals, "ecg.edf"), "9,999 signals"),
    "EDF, another number of signals": (edf((N_SIGNALS, b"999 ")), "an EDF header of"),
    "EDF, 10**8 records": (edf((236, b"99999999")), "of 99,999,999 records"),
    "EDF, 10**8 samples": (edf((SAMPLES, b"99999999")), "0 of 10 records"),
    "EDF, no samples": (edf((SAMPLES, b"0       " * 13)), "0 of 10 records"),
    "EDF, NaN as physical minimum": (edf((PHYSICAL, b"NaN     ")), "'NaN' as physical minimum"),
    "EDF, infinite scale": (edf((PHYSICAL, b"-1e308  ")), "not finite"),
    "50 MB of text lines": (of_bytes(lambda: ROW + b"\n" * 49_000_000, "ecg.csv"), "lines"),
    "20 MB of rows": (of_bytes(lambda: ROW * 400_000, "ecg.csv"), "1,000,000 numbers as text"),
    "a row of 10 million numbers": (
        of_bytes(lambda: b"1 " * 9_000_000, "ecg.csv"),
        "1,000,000 numbers as text",
    ),
    "a number of 10 million digits": (
        of_bytes(lambda: ROW * 2 + b"9" * 10_000_000, "ecg.csv"),
        "a text",
    ),
    "12 numbers of a million digits": (
        of_bytes(lambda: ROW + b",".join([b"9" * 1_000_000] * 12), "ecg.csv"),
        "",
    ),
    "a first cell of 30,000 spaces": (
        of_bytes(lambda: ROW.join([b"I,", b"II,", b"V1,", b"V2" + b" " * 30_000 + b"x,", b""]), "ecg.csv"),
        "the leads I, II, V1 by the file",
    ),
    "a quoted cell without end": (of_bytes(lambda: ROW + b'"' + ROW * 300_000, "ecg.csv"), ""),
    "a statement of nested lists": (of_bytes(lambda: ROW * 5000, "ecg.csv", leads="[" * 9000), "is not YAML"),
    "a statement of a huge number": (
        of_bytes(lambda: ROW * 5000, "ecg.csv", sampling_rate="9" * 9000),
        "sampling",
    ),
}
