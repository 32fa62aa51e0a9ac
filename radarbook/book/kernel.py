"""Execution of one notebook with papermill: its kernel, its progress, and its end."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import papermill
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines

from radarbook.progress import Progress

#: How long a kernel may take to start; a busy machine needs more than the usual minute.
_START_SECONDS = 600


class KernelDied(RuntimeError):
    """The kernel ended while it executed a cell; the message says which."""


def execute(
    source: Path, target: Path, parameters: Mapping[str, Any], folder: Path, bar: Progress
) -> None:
    """Execute the notebook ``source`` in ``folder`` and write it to ``target`` as it goes on.

    ``bar`` counts its cells. Raises :class:`KernelDied` where the kernel was killed or ended
    itself, and papermill's ``PapermillExecutionError`` where a cell failed.
    """
    place = [0]
    try:
        papermill.execute_notebook(
            source,
            target,
            parameters=dict(parameters),
            engine_name=_Engine.name,
            kernel_name="python3",
            language="python",
            cwd=folder,
            progress_bar=False,
            autosave_cell_every=5,
            start_timeout=_START_SECONDS,
            bar=bar,
            place=place,
        )
    except DeadKernelError as error:
        raise KernelDied(f"its kernel died in cell {place[0] + 1} ({error})") from None
    except RuntimeError as error:
        if "Kernel didn't respond" not in str(error) and "Kernel died before" not in str(error):
            raise
        raise KernelDied(f"its kernel did not start ({error})") from None


class _Engine(NBClientEngine):
    """papermill's own engine, which also counts cells for a :class:`Progress`."""

    name = "radarbook"

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: NotebookExecutionManager,
        kernel_name: str,
        *,
        bar: Progress,
        place: list[int],
        **more: Any,
    ) -> Any:
        """Execute the cells; ``place[0]`` is the number of the one that runs, from 0."""
        start, complete = nb_man.cell_start, nb_man.cell_complete
        autosave = nb_man.autosave_cell

        def cell_start(cell: Any, cell_index: int, **rest: Any) -> None:
            place[0] = cell_index
            start(cell, cell_index, **rest)

        def cell_complete(*arguments: Any, **rest: Any) -> None:
            complete(*arguments, **rest)
            bar.update()

        def autosave_cell(*arguments: Any, **rest: Any) -> None:
            autosave(*arguments, **rest)
            bar.update(0)  # a long cell that prints keeps a log alive

        nb_man.cell_start, nb_man.cell_complete = cell_start, cell_complete
        nb_man.autosave_cell = autosave_cell
        with tempfile.TemporaryDirectory(prefix="radarbook-") as folder:
            return super().execute_managed_notebook(
                nb_man, kernel_name, kernel_manager_class=file_sockets(Path(folder)), **more
            )


def file_sockets(folder: Path) -> type[AsyncKernelManager]:
    """The class of kernels whose sockets are files in ``folder``, where the system has such.

    Jupyter's usual kernels get five free port numbers and bind them a second later; another
    process may have taken one by then. A file in a folder of one's own nobody takes.
    """
    address = folder / "kernel"
    # 108 bytes is what Linux leaves to a socket's path, with its end and the number of the socket.
    if os.name != "posix" or len(os.fsencode(address)) > 90:
        return AsyncKernelManager

    class FileSockets(AsyncKernelManager):
        def __init__(self, **more: Any) -> None:
            super().__init__(**more, transport="ipc", ip=str(address))

    return FileSockets


papermill_engines.register(_Engine.name, _Engine)


@contextlib.contextmanager
def own_kernel() -> Iterator[None]:
    """Let the kernel name ``python3`` mean this very interpreter, whatever a user has installed."""
    with tempfile.TemporaryDirectory() as folder:
        kernel = Path(folder) / "kernels" / "python3"
        kernel.mkdir(parents=True)
        argv = [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher"]
        # Errors only: a kernel on this machine warns that its own socket is not encrypted.
        argv += ["--IPKernelApp.log_level=ERROR", "-f", "{connection_file}"]
        spec = {"argv": argv, "display_name": "Python 3"}
        (kernel / "kernel.json").write_text(json.dumps(spec | {"language": "python"}))
        before = os.environ.get("JUPYTER_PATH")
        os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [folder, before]))
        try:
            yield
        finally:
            if before is None:
                del os.environ["JUPYTER_PATH"]
            else:
                os.environ["JUPYTER_PATH"] = before
