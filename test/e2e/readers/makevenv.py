"""Makes the virtual environment that readers run in, once, and prints the path of its Python.

    python3 makevenv.py CACHE_FOLDER REQUIREMENTS

The environment's folder is named by the hash of the requirements, so that another list makes another environment. A
half-made one is made again: the file `complete` comes last.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import venv

def python_of(folder):
    return os.path.join(folder, "Scripts", "python.exe") if os.name == "nt" else os.path.join(folder, "bin", "python")


def main():
    requirements = os.path.abspath(sys.argv[2])
    with open(requirements, "rb") as f:
        digest = hashlib.sha256(f.read() + sys.version.encode()).hexdigest()[:16]
    folder = os.path.join(sys.argv[1], "venv-" + digest)
    done = os.path.join(folder, "complete")
    if not os.path.exists(done):
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(sys.argv[1], exist_ok=True)
        venv.create(folder, with_pip=True)
        subprocess.run(
            [python_of(folder), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements],
            check=True,
            stdout=sys.stderr,
        )
        with open(done, "w"):
            pass
    print(python_of(folder))


main()
